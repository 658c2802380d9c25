"""How the commands of the pages are made short. Nothing of it is in the package.

Every line that trains gets these settings at its end, but for those that it, or the
file of its recipe, makes itself; of epochs and seeds it gets fewer in any case. A dozen
drawn people have too few pairs for the false-match rates of the pages,
which are raised.

A training is prepared as ever; if the session has trained its network before, it then
takes the results of that training instead of steps, unless callbacks are to see them.
"""

import json
import shutil
from pathlib import Path

import yaml

from tests.conftest import SMALL
from topdb_tf import registry

TRAINING = ("fit", "demo")
SETTINGS = {
    **dict(setting.split("=", 1) for setting in SMALL),
    "model.backbone": "tiny",
    "model.weights": "none",
    "train.precision": "float32",
    "train.evaluate_every": "0",
    "evaluation.rerank": "true",  # so that every training can stand for any other
}
EPOCHS = {
    "train.epochs": "1",
    "train.warmup_epochs": "0",
    "train.freeze_epochs": "0",
    "train.stop_after": "0",
}
MOST_SEEDS = 2
LEAST_RATE = 0.3
_RATE = "--false-match-rate"


class TrainedOnce:
    """Stands for `topdb_tf.fit.loop.train`, and keeps what it leaves.

    A network of the package's own parts is trained step by step, without a graph, which
    takes longer to trace than a page's few steps to run.

    Args:
        train: The real function.
        folder: Where the results are kept.
    """

    def __init__(self, train, folder):
        self.train = train
        self.folder = folder
        self.kept = {}

    def __call__(self, training, run, *, resumed=None, callbacks=()):
        config = training.config
        network = (config.model, config.train.strategy)
        training.trainer.run_eagerly = not registry._ADDED
        if callbacks:
            self.train(training, run, resumed=resumed, callbacks=callbacks)
            return
        if network not in self.kept:
            self.train(training, run, resumed=resumed)
            self.kept[network] = self.folder / str(len(self.kept))
            shutil.copytree(run.path, self.kept[network])
            return
        own = (run.config_file.name, run.environment.name)
        results = shutil.ignore_patterns(*own)
        shutil.copytree(
            self.kept[network], run.path, ignore=results, dirs_exist_ok=True
        )
        scores = json.loads(run.scores.read_text(encoding="utf-8"))
        scores["dataset"] = config.data.dataset
        run.scores.write_text(json.dumps(scores), encoding="utf-8")


def shortened(words):
    """Returns the words of a `topdb-tf` command with the settings of the tests."""
    words = list(words)
    if "--seeds" in words:
        place = words.index("--seeds") + 1
        words[place] = str(min(int(words[place]), MOST_SEEDS))
    if "calibrate" in words and _RATE not in words:
        words += [_RATE, str(LEAST_RATE)]
    for place, option in enumerate(words[:-1]):
        if option == _RATE:
            words[place + 1] = str(max(float(words[place + 1]), LEAST_RATE))
    named = {
        word
        for before, word in zip(["", *words], words, strict=False)
        if before != "--model"
    }
    if not named & set(TRAINING) or "--help" in words or "--resume" in words:
        return words
    pairs = zip(words, words[1:], strict=False)
    own = {value.partition("=")[0] for option, value in pairs if option == "--set"}
    if "--recipe" in words:
        own |= _settings_of(Path(words[words.index("--recipe") + 1]))
    if "model.weights" in own:  # of the backbone that the recipe names
        own.add("model.backbone")
    settings = {key: value for key, value in SETTINGS.items() if key not in own}
    for key, value in (settings | EPOCHS).items():
        words += ["--set", f"{key}={value}"]
    return words


def _settings_of(recipe):
    """Returns the names of the settings in the file of a recipe, if it is one."""
    sections = yaml.safe_load(recipe.read_text()) if recipe.suffix == ".yaml" else {}
    return {
        f"{section}.{key}"
        for section, settings in sections.items()
        if isinstance(settings, dict)
        for key in settings
    }
