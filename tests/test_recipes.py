"""The recipes of the paper's methods, on the paper's four data sets."""

from pathlib import Path

import pytest
import yaml

from topdb_tf.data.records import load_card
from topdb_tf.evaluate.published import METHOD_OF_RECIPE, TABLE_1, TABLE_2, TITLES
from topdb_tf.fit.fit import build_trainer
from topdb_tf.runs.recipes import read_recipe, recipes

ROOT = Path(__file__).parents[1]
RECIPES = sorted(METHOD_OF_RECIPE)
SMALL = ["model.backbone=tiny", "model.weights=none"]
SMALL += ["data.image_height=96", "data.image_width=32"]
STREAMS = {
    "paper": {"global", "top_drop", "regularization"},
    "authors": {"global", "top_drop", "regularization"},
    "bdb": {"global", "top_drop"},
    "no_drop": {"global", "regularization"},
    "no_reg": {"global", "top_drop"},
}


def test_the_recipes_of_the_paper_are_there():
    assert set(RECIPES) == {"paper", "authors", "bdb", "no_drop", "no_reg"}
    assert set(RECIPES) <= set(recipes())
    assert set(METHOD_OF_RECIPE.values()) == set(TABLE_1)
    for table in (TABLE_1, TABLE_2):
        for figures in table.values():
            assert list(figures) == list(TITLES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_at_most_fifteen_lines_of_differences(recipe):
    text = (ROOT / "configs" / f"{recipe}.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert 0 < len(lines) <= 15
    for section, settings in yaml.safe_load(text).items():
        own = getattr(read_recipe(recipe), section)
        paper = getattr(read_recipe("paper"), section)
        for name in settings:
            assert recipe == "paper" or getattr(own, name) != getattr(paper, name)


@pytest.mark.parametrize("split", TITLES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_alike_on_each_data_set(recipe, split):
    config, card = read_recipe(recipe, [f"data.dataset={split}"]), load_card(split)
    assert config.data.dataset == split
    assert config.data.image_size == (384, 128)
    assert config.data.pids_per_batch == 16
    assert config.train.epochs == 400
    assert card.parts["train"].pids >= config.data.pids_per_batch
    assert read_recipe(recipe).model == config.model
    assert read_recipe(recipe).train == config.train


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_a_network_for_the_identities_of_a_data_set(recipe):
    num_pids = load_card("cuhk03-labeled").parts["train"].pids
    trainer, _ = build_trainer(read_recipe(recipe, SMALL), num_pids=num_pids)
    outputs = trainer.network.output
    assert set(outputs) == STREAMS[recipe]
    for stream in outputs.values():
        assert stream["logits"].shape[-1] == num_pids == 767


def test_the_baseline_has_the_soft_margin_and_the_others_the_hinge():
    margins = {recipe: read_recipe(recipe).train.margin for recipe in RECIPES}
    assert margins.pop("bdb") == "soft"
    assert set(margins.values()) == {0.3}
    trainer, _ = build_trainer(read_recipe("bdb", SMALL), num_pids=4)
    assert trainer.triplet.margin == "soft"


@pytest.mark.parametrize("name", recipes())
def test_recipes_name_settings_as_they_are_called_today(name):
    lines = []
    read_recipe(name, say=lines.append)
    assert lines == []
