import dataclasses
import math
import typing

import pytest

from topdb_tf.runs.nearest import fit_command, nearest_recipe
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
    assert {"paper", "authors", "bdb", "no_drop", "no_reg", "strong"} <= set(recipes())
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
        ("train.epochs=0", r"`train.epochs` must be a whole number in \[1, 99999\]"),
        ("train.epochs=2.5", "must be a whole number"),
        ("train.seed", "section.key=value"),
        ("train=3", "train must hold keys and values"),
        ("data.flip=1.5", r"`data.flip` must be a number in \[0, 1\]. Received: 1.5"),
        ("data.batch_size=30", "multiple of `data.images_per_pid`.*30"),
        ("data.images_per_pid=1", r"in \[2, 1024\]"),
        ("data.image_height=0", r"`data.image_height` must be .* in \[8, 4096\]"),
        ("train.learning_rate=0", r"`train.learning_rate` must be .* in \[1e-12"),
        ("train.label_smoothing=1", r"`train.label_smoothing` must be .* in \[0, 1\)"),
        ("model.height_ratio=1", r"must be a number in \(0, 1\).*drop everything"),
        ("model.height_ratio=0", r"`model.height_ratio` must be .* in \(0, 1\]"),
        ("model.height_ratio=[0.2, 1.4]", r"must be a number or several in \(0, 1\]"),
        ("model.height_ratio=[0.2, 1]", "together they would drop everything"),
        ("model.height_ratio=[0.2, 0.2]", "several, each once. Received: .0.2, 0.2"),
        ("model.height_ratio=[]", "must be a number or several, each once"),
        ("model.height_ratio=[0.2, half]", "must be a number or several. Received: .0"),
        ("model.width_ratio=0", r"`model.width_ratio` must be a number in \(0, 1\]"),
        ("model.streams=[]", "`model.streams` must name one stream or more"),
        ("model.streams=[global, global]", "each once. Received: .'global', 'global'"),
        ("train.decay_epochs=[3, 3]", "`train.decay_epochs` must hold each epoch once"),
        ("model.neck=noshift", "Did you mean `no_shift`"),
        ("train.precision=float64", "one of auto, float32, bfloat16, float16"),
        ("train.margin=[1]", "`train.margin` must be `soft` or a number"),
        ("train.margin=hard", "`train.margin` must be `soft` or a number"),
    ],
)
def test_a_wrong_override_is_explained(override, message):
    with pytest.raises(ValueError, match=message):
        read_recipe("paper", [override])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(ema=1.0), r"`train.ema` must be .* in \[0, 0.999999\]"),
        (lambda: TrainConfig(epochs=2.5), "`train.epochs` must be a whole number"),
        (lambda: TrainConfig(warmup="linar"), "Did you mean `linear`"),
        (lambda: TrainConfig(stop_after=1, evaluate_every=0), "`train.stop_after`"),
        (lambda: TrainConfig(epochs=5, freeze_epochs=5), "`train.freeze_epochs`"),
        (
            lambda: TrainConfig(schedule="cosine", epochs=9, warmup_epochs=9),
            "`train.warmup_epochs` must be fewer",
        ),
        (lambda: DataConfig(batch_size=30), "multiple of `data.images_per_pid`"),
        (lambda: DataConfig(flip=1.5), r"`data.flip` must be .* in \[0, 1\]"),
        (lambda: ModelConfig(neck="bent"), "`model.neck` must be one of no_shift"),
        (lambda: ModelConfig(pool="max"), "`model.pool` must be one of average, gem"),
        (
            lambda: ModelConfig(bottleneck_channels=512, num_bottlenecks=0),
            "one bottleneck or more. Received: .*, bottleneck_channels=512",
        ),
        (
            lambda: ModelConfig(bottleneck_channels=3),
            "`bottleneck_channels` 0, or at least 4",
        ),
        (lambda: EvaluationConfig(metric="l1"), "`evaluation.metric` must be one of"),
    ],
)
def test_settings_are_checked_where_they_are_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def number_settings():
    """Yields the class, the key and the field of every setting that takes numbers."""
    for section in dataclasses.fields(Config):
        if section.name == "plugins":  # names of modules, no section
            continue
        hints = typing.get_type_hints(section.default_factory)
        for setting in dataclasses.fields(section.default_factory):
            kinds = {hints[setting.name], *typing.get_args(hints[setting.name])}
            if kinds & {int, float}:
                key = f"{section.name}.{setting.name}"
                yield pytest.param(section.default_factory, key, setting, id=key)


NO_NUMBERS = [".nan", "nan", ".inf", "-.inf", "-1", "1e300", "1" + 400 * "0", "true"]
NO_NUMBERS += ["many", "null", "''", "{a: 1}", "[[1]]", "2024-01-01"]


@pytest.mark.parametrize(("section", "key", "setting"), list(number_settings()))
def test_every_number_has_an_interval(section, key, setting):
    for text in NO_NUMBERS:
        with pytest.raises(ValueError, match=f"`{key}` must be .*number.*--set {key}"):
            read_recipe("paper", [f"{key}={text}"])
    for value in (math.nan, math.inf, -math.inf, -1, True, "1", None):
        value = (value,) if isinstance(setting.default, tuple) else value
        with pytest.raises(ValueError, match=f"`{key}` must be .*number"):
            section(**{setting.name: value})
    assert "interval" in setting.metadata


def test_numbers_as_programs_write_them_are_taken():
    train = read_recipe(
        "paper",
        ["train.epochs=3e2", "train.warmup_epochs=4.0", "train.l2='1E-3'"]
        + ["train.decay_epochs=[300, 200.0]", "train.margin=0", "train.ema=0.9999"],
    ).train
    assert (train.epochs, train.warmup_epochs, train.l2) == (300, 4, 0.001)
    assert (train.decay_epochs, train.margin, train.ema) == ((300, 200), 0.0, 0.9999)
    assert read_recipe("paper", ["train.decay_epochs=[]"]).train.decay_epochs == ()


def test_one_ratio_or_several_are_read():
    def model(*settings):
        return read_recipe("paper", settings).model

    assert model().height_ratio == 0.3
    assert model("model.height_ratio=0.2").height_ratios == (0.2,)
    several = model("model.height_ratio=[0.2, 0.4]")
    assert several.height_ratio == several.height_ratios == (0.2, 0.4)
    columns = model("model.height_ratio=1", "model.width_ratio=0.3")
    assert (columns.height_ratio, columns.width_ratio) == (1, 0.3)


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


@pytest.mark.parametrize(
    ("recipe", "num_epochs", "warmup", "decays"),
    [
        # paper: 50, 200 and 300 of 400. 50 x 60 / 400 = 7.5, halves upwards.
        ("paper", 60, 8, (30, 45)),
        ("paper", 800, 100, (400, 600)),
        ("paper", 4, 1, (2, 3)),  # 0.5, 2, 3
        # No room for a decay: the first epoch at the peak is the last one.
        ("paper", 1, 0, ()),
        # demo: 3, 12 and 16 of 18. 1/3, 4/3 and 16/9: the first decay comes after the
        # first epoch at the peak, the other after it and the end.
        ("demo", 2, 0, (2,)),
        ("demo", 18, 3, (12, 16)),  # its own number
    ],
)
def test_epochs_alone_bring_warm_up_and_decay_along(recipe, num_epochs, warmup, decays):
    lines = []
    settings = [f"train.epochs={num_epochs}"]
    train = read_recipe(recipe, settings, say=lines.append).train
    assert (train.epochs, train.warmup_epochs) == (num_epochs, warmup)
    assert train.decay_epochs == decays
    assert len(lines) == (num_epochs != 18)
    for line in lines:
        assert f"train.warmup_epochs={warmup} and train.decay_epochs=" in line
        assert line.startswith(settings[0])


def test_a_schedule_that_is_given_by_hand_stays(tmp_path):
    by_hand = ["train.epochs=60", "train.decay_epochs=[200, 300]"]
    train = read_recipe("paper", by_hand).train
    assert train.decay_epochs == (200, 300)
    assert train.warmup_epochs == 8
    # Epochs named twice: the last number, from the recipe's own.
    twice = read_recipe("paper", ["train.epochs=7", "train.epochs=400"])
    assert twice.train == TrainConfig()
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train: {epochs: 40, decay_epochs: [39]}")
    assert read_recipe(str(recipe)).train.warmup_epochs == 5
    longer = read_recipe(str(recipe), ["train.epochs=80"]).train
    assert (longer.warmup_epochs, longer.decay_epochs) == (10, (78,))
    # A run's folder holds what it was trained with.
    own = read_config(recipe, ["train.epochs=80"]).train
    assert (own.warmup_epochs, own.decay_epochs) == (50, (39,))


def test_the_longest_recipe_still_has_a_schedule():
    train = read_recipe("paper", ["train.epochs=99999", "train.schedule=cosine"]).train
    assert train.warmup_epochs == 12_500
    for num_epochs in range(1, 60):
        read_recipe("light", [f"train.epochs={num_epochs}", "train.schedule=cosine"])


def test_every_recipe_can_be_of_few_epochs():
    for recipe in recipes():  # which `nearest_recipe` asks of all of them
        for num_epochs in (1, 2, 3):
            read_recipe(recipe, [f"train.epochs={num_epochs}"])
    # 10 and 5 of 60: 20 / 60 of them are 3.3 and 1.7.
    train = read_recipe("strong", ["train.epochs=20"]).train
    assert (train.warmup_epochs, train.freeze_epochs) == (3, 2)


def test_a_nearest_recipe_counts_what_follows_from_epochs_as_one_change():
    config = read_recipe("light", ["train.epochs=20"])
    near = nearest_recipe(config)
    assert near.name == "light"
    assert [change.key for change in near.departures] == ["train.epochs"]
    assert fit_command(config, "x").endswith("--set train.epochs=20")
    unscaled = read_recipe("demo", ["train.epochs=27", "train.decay_epochs=[12, 16]"])
    assert "--set 'train.decay_epochs=[12, 16]'" in fit_command(unscaled, "x")
