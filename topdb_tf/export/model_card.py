"""The model card: what an exported model is, how good, and what it may be used for."""

from dataclasses import dataclass
from pathlib import Path

from topdb_tf import __version__
from topdb_tf.data.benchmarks import dataset_name, joined_names
from topdb_tf.data.records import load_card
from topdb_tf.evaluate.calibrate import read_calibration, share_text
from topdb_tf.evaluate.scores import read_scores, score_lines
from topdb_tf.runs.folder import Run
from topdb_tf.texts import Table, rate_text

_HEADER = """\
---
library_name: keras-hub
pipeline_tag: image-feature-extraction
tags: [person-re-identification, image-retrieval, keras, topdb-tf]
---

"""
_TITLE = """\
# Person re-identification embedder (Top-DB-Net)

Given the image of a person, cut out of a camera's picture, the model returns a vector;
vectors of the same person lie close together. Exported by topdb-tf {version}.

"""
_SERVED = """\
## What it takes and gives

| signature | input | output |
|---|---|---|
| `serving_default` | `image_bytes`: string `(batch,)`, JPEG or PNG files | \
`embedding`: float32 `(batch, {export.dim})` |
| `pixels` | `images`: uint8 RGB `(batch, height, width, 3)` | the same |
| `activation_map` | `image_bytes` | `activation_map`: float32 `(batch, rows, \
columns)`, eq. 1 of the paper |

Images are resized to {export.height} x {export.width} pixels in the graph. {norm}
Feature maps are computed in {export.precision}. On drawn images the embeddings differ \
from the
evaluation's in float32 by at most {export.max_difference:.2g}; the smallest cosine is \
{export.min_cosine:.7f}.

"""
_PRESET = """\
## How to use it

```python
import topdb_tf  # pip install topdb-tf

embedder = topdb_tf.Embedder("{name}")
vectors = embedder(["a.jpg", "b.jpg"])  # float32, (2, {dim})
```

As a task of KerasHub it is `topdb_tf.TopDBImageEmbedder.from_preset("{name}")`. On the
command line, `topdb-tf embed photos --model {name}`. Images are resized to {height} x
{width} pixels. Embeddings are not normalised. `topdb.json` has the SHA-256 of each
file, by which the preset is checked when it is loaded.

"""
_ABOUT = """\
## Training data

{data}

## Scores

{scores}

## Decision threshold

{threshold}

## Limits

- It ranks images by clothing and appearance. It does not know people across days or
  clothes, and it is not biometric proof of anybody's identity.
- Scores on a benchmark say little about other cameras, light, crops or people. Measure
  on your own images before you rely on it.
- Nothing is known about how errors differ between groups of people: the data sets carry
  no such labels. Expect differences, and test for them.
- No identity of the training data is in the model's outputs: the classifiers are left
  out.

## Consent and law

Re-identification follows people through cameras. Use it only where those seen have
consented or there is another legal basis, and check the law of the place first (in the
European Union the GDPR and the AI Act apply). Keep embeddings as carefully as images,
and let no decision about a person rest on a match alone. The terms of the training data
bind the model's use too.

## How it was made

{made}
"""


@dataclass(frozen=True)
class ServedExport:
    """A version of a model for TensorFlow Serving, as it was written and checked.

    The difference and the cosine are from the source's embeddings in float32, on drawn
    images; the loader, `cpp` or `session`, is what loaded the version for them.
    """

    path: Path
    mebibytes: float
    precision: str
    normalize: bool
    height: int
    width: int
    dim: int
    max_difference: float
    min_cosine: float
    loader: str
    seconds: float


def model_card(model: Path, run: Run | None, export: ServedExport) -> str:
    """Returns the text of a model card, Markdown; without a run little is known."""
    norm = "have unit L2 norm" if export.normalize else "are not normalised"
    return (_TITLE + _SERVED + _ABOUT).format(
        export=export,
        norm=f"Embeddings {norm}.",
        **_about(run, model, normalize=export.normalize),
    )


def preset_card(model: Path, run: Run, name: str, embedder) -> str:
    """Returns the text of a preset's card, with the header that hubs read.

    The run's settings must be those to be shown; the name is how others call it.
    """
    height, width = embedder.input_shape[1:3]
    return (_HEADER + _TITLE + _PRESET + _ABOUT).format(
        name=name,
        dim=embedder.output_shape[-1],
        height=height,
        width=width,
        **_about(run, model, normalize=False),
    )


def _about(run, model, *, normalize):
    return {
        "version": __version__,
        "data": _data(run),
        "scores": _scores(run, model),
        "threshold": _threshold(run, model, normalize),
        "made": _made(run, model),
    }


def _data(run):
    if run is None:
        return "Unknown: the model was exported from a file alone."
    return "\n\n".join(map(_data_set, joined_names(run.saved.data.dataset)))


def _data_set(name):
    try:
        card = load_card(name)
    except FileNotFoundError:
        return f"{dataset_name(name)}; the terms of its images are its owner's."
    return f"{card.title} (`{name}`). Terms: {card.terms}\n\n{card.citation}"


def _scores(run, model):
    if run is None:
        return "Not measured: `topdb-tf evaluate` scores the model."
    is_best = model == run.folder.best_embedder
    scores = read_scores(run, best=is_best)
    if scores is None or scores.model != model.name:
        option = " --best" if is_best else ""
        return f"Not measured: `topdb-tf evaluate{option}` scores the model."
    lines = "\n".join(f"- {line}" for line in score_lines(scores))
    named = scores.plain.protocol.to_dict().items()
    protocol = ", ".join(f"{key} {value}" for key, value in named)
    return (
        f"On the test split of `{scores.origin.dataset}`, whose identities are not "
        f"those of the training, single query:\n\n{lines}\n\nProtocol: {protocol}."
    )


def _threshold(run, model, normalize):
    if run is None or not run.folder.calibration.is_file():
        return (
            "Not calibrated: `topdb-tf calibrate` finds a threshold on pairs of images."
        )
    try:
        calibration = read_calibration(run.path)
    except ValueError as error:
        return f"Not calibrated: {error}"
    if calibration.model != model.name:
        return f"Not calibrated: the run's calibration is of {calibration.model}."
    rows = [
        [
            rate_text(point.wanted_false_match_rate),
            f"{point.threshold:g}",
            share_text(point.false_match_rate),
            share_text(point.true_match_rate),
        ]
        for point in calibration.pairs.operating_points
    ]
    head = ["wanted false-match rate", "threshold", "false matches", "true matches"]
    unit = (
        "They are for embeddings that are not normalised, unlike these."
        if normalize and calibration.metric != "cosine"
        else "Images at most that far apart count as one person."
    )
    table = "\n".join(Table("", head, rows).markdown())
    return (
        f"Thresholds on the {calibration.metric} distance. {unit} Found on one half of "
        f"the test identities of `{calibration.origin.dataset}`, measured on the "
        f"other; elsewhere the rates will be others.\n\n{table}"
    )


def _made(run, model):
    if run is None:
        return f"From `{model.name}`."
    environment = run.environment
    settings = run.saved.to_yaml().rstrip()
    return (
        f"Seed {environment.seed}, training precision {environment.precision}, "
        f"{environment.device}, commit {environment.git_commit}. Settings:"
        f"\n\n```yaml\n{settings}\n```"
    )
