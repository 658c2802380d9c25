"""Figures of curves and matrices: what they draw is what they were given."""

import numpy as np
import pytest

from topdb_tf.drawing.curves import CmcCurve, cmc_figure
from topdb_tf.drawing.distances import Threshold, densities, distance_figure
from topdb_tf.drawing.embedding_map import embedding_map_figure
from topdb_tf.drawing.labels import spread_apart
from topdb_tf.drawing.matrices import camera_pair_figure
from topdb_tf.drawing.style import COLUMN_WIDTH, PAGE_WIDTH, save_figure
from topdb_tf.drawing.training_curves import band_of, training_figure
from topdb_tf.retrieval.pairs.operating_points import CompactRoc

CMC = np.array([0.5, 0.75, 0.875, 1.0])


def log_of(*, factor=1.0, streams=("global", "top_drop")):
    """A log of three epochs, of which the second and third are scored."""
    log = {"epoch": np.array([1, 2, 3])}
    names = [f"{stream}_{loss}" for stream in streams for loss in LOSSES]
    for place, name in enumerate([*names, "loss", "accuracy", "learning_rate"], 1):
        log[name] = factor * np.array([3.0, 2.0, 1.0]) / place
    log["mean_ap"] = factor * np.array([np.nan, 0.25, 0.5])
    log["rank_1"] = factor * np.array([np.nan, 0.5, 0.75])
    return log


LOSSES = ("cross_entropy", "triplet")


def panels_of(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def texts_of(figure):
    figure.draw_without_rendering()
    return [
        text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))
    ]


@pytest.mark.parametrize("width", [PAGE_WIDTH, COLUMN_WIDTH])
def test_cmc_draws_each_rank_of_each_run(width):
    curves = [CmcCurve("one", CMC), CmcCurve("other", CMC / 2)]
    figure = cmc_figure(curves, max_rank=3, references={"paper": 0.949}, width=width)
    one, other, reference = figure.axes[0].get_lines()[:3]
    np.testing.assert_array_equal(one.get_xydata(), [[1, 0.5], [2, 0.75], [3, 0.875]])
    np.testing.assert_array_equal(other.get_ydata(), CMC[:3] / 2)
    assert reference.get_xydata().tolist() == [[1, 0.949]]
    looks = {(line.get_linestyle(), line.get_marker()) for line in (one, other)}
    assert len(looks) == 2
    low, high = figure.axes[0].get_ylim()
    assert low < 0.25
    assert high >= 1
    text = " ".join(texts_of(figure))
    for part in ("one", "other", "rank-1 25.0 %", "paper, rank-1 94.9 %"):
        assert part in text


def test_names_are_joined_to_the_ends_of_their_lines():
    curves = [CmcCurve("low", CMC / 2), CmcCurve("high", CMC)]
    (axes,) = cmc_figure(curves).axes
    lines, beside = axes.get_lines()[:2], axes.get_lines()[2:]
    joints, keys = beside[::2], beside[1::2]
    for line, joint, key in zip(lines, joints, keys, strict=True):
        look = [line.get_color(), line.get_linestyle(), line.get_marker()]
        assert [key.get_color(), key.get_linestyle(), key.get_marker()] == look
        # Thin and grey, without a marker: it is not to be taken for data.
        assert joint.get_color() != line.get_color()
        assert joint.get_linewidth() < line.get_linewidth()
        assert joint.get_marker() == "None"
        start = axes.transAxes.transform(joint.get_xydata()[0])
        end = axes.transData.transform(line.get_xydata()[-1])
        np.testing.assert_allclose(start, end, atol=0.01)
    texts = {text.get_text().split("\n")[0]: text.xy[1] for text in axes.texts}
    assert texts["low"] < texts["high"]
    assert texts["low"] == pytest.approx(joints[0].get_ydata()[-1])


def test_cmc_of_seeds_is_a_mean_in_a_band():
    deviation = np.array([0.1, 0.05, 0.0, 0.01])
    figure = cmc_figure([CmcCurve("seeds", CMC, deviation)], max_rank=4)
    (band,) = figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    at_first = corners[corners[:, 0] == 1, 1]
    assert sorted(set(at_first.round(6))) == [0.4, 0.6]
    assert corners[:, 1].max() == 1  # no share above 1
    assert any("50.0 ± 10.0 %" in text for text in texts_of(figure))


def test_a_short_cmc_ends_where_it_ends():
    figure = cmc_figure([CmcCurve("short", CMC)], max_rank=20)
    assert figure.axes[0].get_lines()[0].get_xdata().tolist() == [1, 2, 3, 4]


def test_cmc_needs_curves_and_ranks():
    with pytest.raises(ValueError, match="0 curves"):
        cmc_figure([])
    with pytest.raises(ValueError, match="max_rank=1"):
        cmc_figure([CmcCurve("one", CMC)], max_rank=1)


def test_names_are_moved_apart_but_keep_their_order():
    places = np.array([50.0, 51.0, 52.0, 10.0, 99.0])
    moved = spread_apart(places, gap=8, low=0, high=100)
    assert np.diff(np.sort(moved)).min() >= 8 - 1e-9
    assert np.argsort(moved).tolist() == np.argsort(places).tolist()
    assert moved[3] == 10  # nobody is in its way
    assert moved[:3].mean() == pytest.approx(51)


def test_one_training_has_a_line_for_each_stream():
    log = log_of()
    panels = panels_of(training_figure({"run": [log]}))
    assert list(panels) == [
        "cross-entropy",
        "triplet loss",
        "loss, all streams",
        "training accuracy, %",
        "learning rate",
        "retrieval, %",
    ]
    for panel, loss in zip(("cross-entropy", "triplet loss"), LOSSES, strict=True):
        lines = panels[panel].get_lines()
        assert [line.get_label() for line in lines] == ["global", "top_drop"]
        for line in lines:
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
            np.testing.assert_array_equal(
                line.get_ydata(), log[f"{line.get_label()}_{loss}"]
            )
    mean_ap, rank_1 = panels["retrieval, %"].get_lines()
    assert mean_ap.get_xydata().tolist() == [[2, 0.25], [3, 0.5]]
    assert rank_1.get_ydata().tolist() == [0.5, 0.75]


def test_a_training_without_scores_has_no_panel_of_them():
    log = log_of() | {name: np.full(3, np.nan) for name in ("mean_ap", "rank_1")}
    assert "retrieval, %" not in panels_of(training_figure({"run": [log]}))


@pytest.mark.parametrize("width", [PAGE_WIDTH, COLUMN_WIDTH])
def test_several_trainings_share_a_panel_a_stream(width):
    seeds, other = [log_of(), log_of(factor=3)], log_of(streams=("global",))
    figure = training_figure({"seeds": seeds, "other": [other]}, width=width)
    panels = {title.replace("\n", ": "): a for title, a in panels_of(figure).items()}
    mean, line = panels["global: triplet loss"].get_lines()
    np.testing.assert_allclose(mean.get_ydata(), 2 * seeds[0]["global_triplet"])
    np.testing.assert_allclose(line.get_ydata(), other["global_triplet"])
    assert mean.get_linestyle() != line.get_linestyle()
    (band,) = panels["global: triplet loss"].collections
    corners = band.get_paths()[0].vertices
    # 1 and 3 times a value differ by 2 of it: sample deviation of the square root of 2.
    low, high = (2 - 2**0.5) * 1.5, (2 + 2**0.5) * 1.5
    at_first = corners[corners[:, 0] == 1, 1]
    np.testing.assert_allclose(sorted(set(at_first.round(9))), [low, high])
    assert len(panels["top_drop: triplet loss"].get_lines()) == 1
    limits = [panels[f"{s}: triplet loss"].get_ylim() for s in ("global", "top_drop")]
    assert limits[0] == limits[1]


def test_another_column_is_the_axis_where_it_is_named():
    log = log_of() | {"hours": np.array([1.0, 2.5, 3.5])}
    figure = training_figure({"run": [log]}, by="hours")
    panels = panels_of(figure)
    loss = panels["loss, all streams"]
    assert loss.get_lines()[0].get_xdata().tolist() == [1, 2.5, 3.5]
    scored = panels["retrieval, %"].get_lines()[0]  # not the first epoch
    assert scored.get_xdata().tolist() == [2.5, 3.5]
    assert loss.get_xlim()[1] > 3.5
    assert figure.get_supxlabel() == "hours"


def test_seeds_stand_at_their_mean_time_and_a_lone_score_has_room():
    scores = {"mean_ap": np.array([np.nan, np.nan, 0.5])}
    short, *seeds = (
        log_of() | scores | {"hours": hours * np.array([1.0, 2.0, 3.0])}
        for hours in (0.5, 1, 3)
    )
    panels = panels_of(training_figure({"2": seeds, "1": [short]}, by="hours"))
    mean, line = panels["loss, all streams"].get_lines()
    assert mean.get_xdata().tolist() == [2, 4, 6]
    assert line.get_xdata().tolist() == [0.5, 1, 1.5]
    assert [text.get_ha() for text in panels["mAP, %"].texts] == ["right", "left"]


def test_a_band_is_of_the_runs_that_came_so_far():
    short = {"epoch": np.array([1]), "loss": np.array([5.0])}
    band = band_of([log_of() | {"loss": np.array([3.0, 2.0, 1.0])}, short], "loss")
    assert band.mean.tolist() == [4, 2, 1]
    np.testing.assert_allclose(band.deviation, [2**0.5, 0, 0])
    assert band_of([short], "loss").deviation is None


def test_a_training_needs_an_epoch():
    with pytest.raises(ValueError, match="at least one epoch"):
        training_figure({"run": [{"epoch": np.array([])}]})
    with pytest.raises(ValueError, match="at least one log"):
        training_figure({})


def test_histograms_have_the_area_of_one():
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    counts = {
        "same_person": np.array([3, 1, 0]),
        "different_persons": np.array([0, 10, 30]),
        "same_person_same_camera": np.array([0, 0, 0]),
    }
    roc = CompactRoc([1.0, 2.0, 4.0], [0.0, 0.25, 1.0], [0.75, 1.0, 1.0])
    thresholds = [Threshold(1.5, "half"), Threshold(1.0, "third")]
    figure = distance_figure(edges, counts, roc, thresholds=thresholds)
    upper, lower = figure.axes
    drawn = [patch for patch in upper.patches if patch.get_label()[:1] not in "_"]
    heights = {patch.get_label(): patch.get_data().values for patch in drawn}
    assert list(heights) == ["same person (4 pairs)", "different persons (40 pairs)"]
    same, different = heights.values()
    np.testing.assert_allclose(same, [0.75, 0.25, 0])
    np.testing.assert_allclose(different, [0, 0.25, 0.375])
    missed, false = lower.get_lines()[:2]
    np.testing.assert_array_equal(missed.get_ydata(), [0.25, np.nan, np.nan])
    np.testing.assert_array_equal(false.get_ydata(), [0, 0.25, 1])
    upright = [line.get_xdata()[0] for line in lower.get_lines()[2:]]
    assert upright == [1.0, 1.5]
    assert {"a", "b", "a: third", "b: half"} <= set(texts_of(figure))


def test_an_empty_histogram_is_flat():
    assert densities(np.array([0.0, 1.0, 3.0]), np.zeros(2)).tolist() == [0, 0]


def test_a_matrix_writes_scores_and_counts_and_marks_empty_cells():
    scores = np.array([[np.nan, 0.5], [0.925, 1.0]])
    counts = np.array([[0, 4], [1234, 2]])
    figure = camera_pair_figure(scores, counts, ["c3", "c7"])
    texts = set(texts_of(figure))
    assert {"50.0", "92.5", "100.0", "n = 4", "n = 1,234", "c3", "c7"} <= texts
    assert not {"nan", "n = 0"} & texts
    axes = figure.axes[0]
    (empty,) = [patch for patch in axes.patches if patch.get_hatch()]
    assert (empty.get_x(), empty.get_y()) == (-0.5, -0.5)
    (image,) = axes.get_images()
    np.testing.assert_array_equal(image.get_array().filled(np.nan), scores)
    assert (image.norm.vmin, image.norm.vmax) == (0.5, 1)


def test_letters_of_a_matrix_stand_out_from_their_cell():
    figure = camera_pair_figure(np.array([[0.0, 1.0]] * 2), np.ones((2, 2)), "ab")
    colors = {t.get_text(): t.get_color() for t in figure.axes[0].texts}
    assert (colors["0.0"], colors["100.0"]) == ("white", "black")


def test_a_matrix_of_many_cameras_leaves_out_the_counts():
    scores = np.full((15, 15), 0.5)
    figure = camera_pair_figure(
        scores, np.ones((15, 15)), list(map(str, range(15))), width=3.5
    )
    assert not [text for text in texts_of(figure) if text.startswith("n =")]


def test_a_map_tells_persons_by_color_and_mark_and_cameras_by_digits(tmp_path):
    rng = np.random.default_rng(0)
    pids, camids = np.repeat(np.arange(20), 3), np.tile([1, 2, 14], 20)
    points = rng.normal(size=(60, 2))
    figure = embedding_map_figure(points, pids, camids)
    (axes,) = figure.axes
    looks = set()
    for pid, marks in enumerate(axes.collections):
        np.testing.assert_array_equal(marks.get_offsets(), points[pids == pid])
        assert marks.get_label() == str(pid)
        path = marks.get_paths()[0].vertices
        looks.add((tuple(marks.get_facecolor()[0]), path.tobytes()))
    assert len(looks) == 20
    assert [text.get_text() for text in axes.texts] == [str(c) for c in camids]
    starts = {tuple(line.get_xydata()[0].round(9)) for line in axes.get_lines()}
    middles = {tuple(points[pids == pid].mean(axis=0).round(9)) for pid in range(20)}
    assert starts == middles
    save_figure(figure, tmp_path / "map.svg")


def test_a_map_of_named_persons_without_cameras():
    figure = embedding_map_figure(np.eye(2), [4, 7], names={7: "Ada"})
    assert [marks.get_label() for marks in figure.axes[0].collections] == ["4", "Ada"]
    assert {text.get_text() for text in figure.axes[0].texts} == {""}


def test_a_map_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(3, 2\), 2 pids"):
        embedding_map_figure(np.zeros((3, 2)), [1, 2], [1, 2])
    with pytest.raises(ValueError, match="105 persons"):
        embedding_map_figure(np.zeros((105, 2)), np.arange(105))
