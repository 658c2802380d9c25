import dataclasses
import math

import pytest

from topdb_tf.runs.recipes import read_config, read_recipe, recipes
from topdb_tf.runs.settings import (
    RENAMED,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    TrainConfig,
)


def test_every_recipe_can_be_read():
    assert {"paper", "authors", "bdb", "no_drop", "no_reg"} <= set(recipes())
    for recipe in recipes():
        assert isinstance(read_recipe(recipe), Config)


def test_the_paper_is_the_default():
    assert read_recipe("paper") == Config()


def test_the_resolved_settings_can_be_read_back(tmp_path):
    config = read_recipe("authors", ["train.seed=5", "data.root=/data"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert read_config(tmp_path / "config.yaml") == config


def test_overrides_are_converted_to_the_type_of_the_setting():
    config = read_recipe(
        "paper",
        [
            "train.learning_rate=1e-3",
            "train.l2=0",
            "train.decay_epochs=[3, 4]",
            "train.margin=soft",
            "model.weights=none",
            "model.streams=global",
            "evaluation.rerank=true",
        ],
    )
    assert config.train.learning_rate == 0.001
    assert type(config.train.l2) is float
    assert config.train.decay_epochs == (3, 4)
    assert config.train.margin == "soft"
    assert config.model.weights == "none"
    assert config.model.streams == ("global",)
    assert config.evaluation.rerank is True


OLD_NAMES = """\
data:
  split: synthetic
  split_seed: 7
train:
  drop_epochs: [3, 4]
"""


def test_settings_are_read_by_their_old_names_and_a_line_tells_the_new_one(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(OLD_NAMES)
    lines = []
    config = read_config(file, ["data.split_seed=8"], say=lines.append)
    assert (config.data.dataset, config.data.division_seed) == ("synthetic", 8)
    assert config.train.decay_epochs == (3, 4)
    assert len(lines) == 4
    for line, (old, new) in zip(lines, RENAMED.items(), strict=False):
        assert f"`{old}`" in line
        assert f"`{new}`" in line
        assert str(file) in line
    assert "--set data.split_seed=8" in lines[3]
    assert read_config(file) == read_config(file, ["data.division_seed=7"])
    assert read_recipe(str(file)).data.dataset == "synthetic"


def test_a_setting_by_its_old_name_and_its_new_one_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(OLD_NAMES + "  decay_epochs: [5]\n")
    with pytest.raises(ValueError, match=r"`train\.decay_epochs` must be given once"):
        read_config(file)


def test_old_names_name_settings_that_exist():
    for old, new in RENAMED.items():
        section, _, key = new.partition(".")
        assert hasattr(getattr(Config(), section), key)
        assert old.partition(".")[0] == section
        assert not hasattr(getattr(Config(), section), old.partition(".")[2])


def test_a_later_override_wins():
    assert read_recipe("paper", ["train.seed=2", "train.seed=3"]).train.seed == 3


def test_identities_of_a_batch():
    assert DataConfig(batch_size=64, images_per_pid=4).pids_per_batch == 16


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "Did you mean `train.epochs`"),
        ("epochs=3", "Did you mean `train.epochs`"),
        ("trian.epochs=3", "Did you mean `train.epochs`|no setting `trian`"),
        ("train.epochs=many", "`train.epochs` must be a whole number.*many"),
        ("train.epochs=0", "`train.epochs` must be at least 1"),
        ("train.epochs=2.5", "must be a whole number"),
        ("train.seed", "section.key=value"),
        ("train=3", "train must hold keys and values"),
        ("data.flip=1.5", r"`data.flip` must be in \[0, 1\]"),
        ("data.batch_size=30", "multiple of `data.images_per_pid`.*30"),
        ("data.images_per_pid=1", "at least 2"),
        ("model.neck=noshift", "Did you mean `no_shift`"),
        ("train.precision=float64", "one of auto, float32, bfloat16, float16"),
        ("train.margin=[1]", "`train.margin`"),
    ],
)
def test_a_wrong_override_is_explained(override, message):
    with pytest.raises(ValueError, match=message):
        read_recipe("paper", [override])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(ema=1.0), "`train.ema` must be below 1"),
        (lambda: TrainConfig(epochs=0), "`train.epochs` must be at least 1"),
        (lambda: TrainConfig(warmup="linar"), "Did you mean `linear`"),
        (lambda: TrainConfig(stop_after=1, evaluate_every=0), "`train.stop_after`"),
        (lambda: TrainConfig(epochs=5, freeze_epochs=5), "`train.freeze_epochs`"),
        (
            lambda: TrainConfig(schedule="cosine", epochs=9, warmup_epochs=9),
            "`train.warmup_epochs` must be fewer",
        ),
        (lambda: DataConfig(batch_size=30), "multiple of `data.images_per_pid`"),
        (lambda: DataConfig(flip=1.5), r"`data.flip` must be in \[0, 1\]"),
        (lambda: ModelConfig(neck="bent"), "`model.neck` must be one of no_shift"),
        (lambda: EvaluationConfig(metric="l1"), "`evaluation.metric` must be one of"),
    ],
)
def test_settings_are_checked_where_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def numbers():
    for section in dataclasses.fields(Config):
        for setting in dataclasses.fields(section.default_factory):
            if isinstance(setting.default, float):
                yield section, setting


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("section", "setting"), list(numbers()), ids=lambda field: field.name
)
def test_every_number_must_be_finite(section, setting, value):
    key = f"{section.name}.{setting.name}"
    with pytest.raises(ValueError, match=f"`{key}` must be a finite number"):
        section.default_factory(**{setting.name: value})
    with pytest.raises(ValueError, match=f"`{key}` must be a finite number"):
        read_recipe("paper", [f"{key}=.{str(value)}"])


def test_settings_are_checked_together_and_not_one_after_the_other():
    # Either alone does not go with what the recipe has.
    config = read_recipe("paper", ["data.batch_size=30", "data.images_per_pid=5"])
    assert config.data.pids_per_batch == 6
    overrides = ["train.schedule=cosine", "train.epochs=9", "train.warmup_epochs=3"]
    assert read_recipe("paper", overrides).train.epochs == 9


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean `authors`"):
        read_recipe("author")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine.yaml"):
        read_recipe(str(tmp_path / "mine.yaml"))


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="must hold keys and values"):
        read_config(path)


def test_broken_yaml_names_the_file(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("train: {epochs: 3")
    with pytest.raises(ValueError, match="broken.yaml is not a YAML file"):
        read_config(path)
