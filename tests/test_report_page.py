"""The pages of `report` and `compare`, as a browser shows them."""

import json
import shutil

import numpy as np
import pytest

from tests import browser as chromium
from tests.page_checks import check_page
from topdb_tf.report.page import Contents
from topdb_tf.runs.folder import open_run

# As a name of a file and of a folder: it would run if it became markup.
HOSTILE = "<img src=x onerror=owned=1><script>owned=1<!--'\"&amp;$_"
TOP = 4
NUM_QUERIES = 6  # of `small_data_root`

needs_browser = pytest.mark.skipif(
    bool(chromium.missing()), reason=f"{chromium.missing()}"
)


@pytest.fixture(scope="module")
def hostile_root(small_data_root, tmp_path_factory):
    """A data root whose test images have names that would do harm as markup."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(small_data_root / "synthetic", root / "synthetic")
    for part in ("query", "bounding_box_test"):
        for path in sorted((root / "synthetic" / part).iterdir()):
            path.rename(path.with_name(f"{path.stem}{HOSTILE}{path.suffix}"))
    return root


@pytest.fixture(scope="module")
def runs(small_run, tmp_path_factory):
    """Two runs of other weights, one of them in a folder with a harmful name."""
    from topdb_tf.model.extraction import load_embedder

    folder = tmp_path_factory.mktemp("runs")
    first, second = folder / f"run {HOSTILE}", folder / "second"
    for copy in (first, second):
        shutil.copytree(small_run, copy)
    embedder = load_embedder(second / "embedder.keras")
    rng = np.random.default_rng(1)
    for weight in embedder.trainable_variables:
        noise = rng.normal(size=weight.shape).astype("float32")
        weight.assign(weight * (1 + 0.5 * noise))
    embedder.save(second / "embedder.keras")
    config = second / "config.yaml"
    config.write_text(config.read_text().replace("erase: 0.0", "erase: 0.25"))
    return first, second


@pytest.fixture(scope="module")
def report(runs, hostile_root, tmp_path_factory):
    """The facts of a report, and its file."""
    from topdb_tf.report.report import write_report

    run = open_run(runs[0], [f"data.root={hostile_root}"])
    out = tmp_path_factory.mktemp("page") / "report.html"
    result = write_report(run, out, Contents(queries=60, top=TOP))
    return result.to_dict(), out


@pytest.fixture(scope="module")
def comparison(runs, hostile_root, tmp_path_factory):
    """The facts of a comparison, and its file."""
    from topdb_tf.report.compare import write_comparison

    out = tmp_path_factory.mktemp("page") / "compare.html"
    overrides = [f"data.root={hostile_root}"]
    contents = Contents(queries=5, top=TOP)
    result = write_comparison(runs, out, contents, overrides=overrides)
    return result.to_dict(), out


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as opened:
        yield opened


def data_of(out):
    return json.loads(check_page(out.read_text(encoding="utf-8")).scripts[0])


def count_text(browser):
    return browser.run("return document.getElementById('count').textContent")


def cards(browser):
    return browser.all("#cards .card")


def choose(browser, name, value):
    script = """
    const field = document.getElementById("filters").elements[arguments[0]];
    if (field.type === "checkbox") field.checked = arguments[1];
    else field.value = arguments[1];
    field.dispatchEvent(new Event("input", {bubbles: true}));
    """
    browser.run(script, name, value)


def first_list(query, which=0):
    return [kind for _, _, kind in query["ranked"][which]]


def test_a_report_is_whole_well_formed_and_runs_its_own_script_alone(report):
    facts, out = report
    page = check_page(out.read_text(encoding="utf-8"))
    assert facts["bytes"] == out.stat().st_size
    assert len(page.scripts) == 2  # the data, and the script of the package
    # Harmful names are there, as text: no element came of them.
    assert not [own for tag, own in page.elements if own.get("src") == "x"]
    assert "run &lt;img src=x" in page.text


def test_a_report_holds_what_was_measured(report, runs):
    facts, out = report
    data = data_of(out)
    assert facts["queries_shown"] == len(data["queries"]) == NUM_QUERIES
    assert data["lists"] == ["plain", "re-ranked"]
    mean = np.mean([query["ap"][0] for query in data["queries"]])
    assert mean == pytest.approx(facts["mean_ap"], abs=1e-4)
    firsts = [query["first"][1] for query in data["queries"]]
    assert np.mean(np.array(firsts) == 1) == facts["reranked"]["rank_1"]
    used = [query["image"] for query in data["queries"]]
    used += [image for *_, image in data["gallery"]]
    assert sorted(set(used)) == list(range(len(data["images"])))
    for query in data["queries"]:
        for which in (0, 1):
            kinds = first_list(query, which)
            ranked = [kind for kind in kinds if kind != 2]
            assert len(ranked) == TOP
            assert kinds[-1] != 2  # nothing is listed behind the last ranked image
            if query["first"][which] <= TOP:
                assert ranked.index(1) + 1 == query["first"][which]
    text = out.read_text(encoding="utf-8")
    for words in ("SHA-256", "Top DropBlock", "topdb-tf fit --recipe demo", "of 2"):
        assert words in text


def test_a_comparison_is_whole_and_holds_both_lists(comparison):
    facts, out = comparison
    data = data_of(out)
    assert len(data["lists"]) == 2
    assert facts["queries_shown"] == len(data["queries"]) > 0
    spreads = [abs(query["ap"][0] - query["ap"][1]) for query in data["queries"]]
    assert spreads == sorted(spreads, reverse=True)
    assert [row[0] for row in facts["settings"]["rows"]] == ["data.erase"]
    first, second = facts["trainings"]
    difference = second["scores"]["mAP"]["mean"] - first["scores"]["mAP"]["mean"]
    assert second["scores"]["mAP"]["difference"] == pytest.approx(difference)
    assert facts["queries"][0]["mean"] == pytest.approx(difference)


@needs_browser
def test_nothing_fails_and_nothing_is_asked_for(browser, report, comparison):
    for _, out in (report, comparison):
        browser.open(out)
        assert browser.messages() == []
        others = [url for url in browser.requests() if not url.startswith("data:")]
        assert others == [out.resolve().as_uri()]
        assert browser.run("return typeof owned") == "undefined"
        assert HOSTILE in browser.driver.title


@needs_browser
def test_pictures_and_figures_are_drawn(browser, report, comparison):
    for _, out in (report, comparison):
        browser.open(out)
        browser.run(
            "return Promise.all([...document.images].map((image) => image.decode()))"
        )
        sizes = "return [...document.images].map((image) => image.naturalWidth)"
        widths = browser.run(sizes)
        assert len(widths) > 10
        assert min(widths) > 0
        boxes = browser.run(
            "return [...document.querySelectorAll('.drawing:not(.on-narrow) svg')]"
            ".map((svg) => svg.getBoundingClientRect().height)"
        )
        assert len(boxes) >= 3
        assert min(boxes) > 100


@needs_browser
@pytest.mark.parametrize("width", [360, 390, 1440, 1600])
def test_no_page_is_wider_than_its_window(browser, report, comparison, width):
    for _, out in (report, comparison):
        browser.open(out, width=width)
        choose(browser, "junk", True)
        for details in ("numbers", "card details", "plain-fold"):
            browser.run(
                "for (const d of document.querySelectorAll('.' + arguments[0]))"
                " d.open = true",
                details,
            )
        assert browser.run("return document.documentElement.scrollWidth") <= width


@needs_browser
def test_filters_show_the_queries_that_they_name(browser, report):
    _, out = report
    queries = data_of(out)["queries"]
    browser.open(out)
    assert len(cards(browser)) == NUM_QUERIES
    assert count_text(browser) == "6 of the 6 queries in this page"
    for which in (0, 1):
        choose(browser, "by", str(which))
        wrong = sum(query["first"][which] != 1 for query in queries)
        choose(browser, "show", "wrong")
        assert len(cards(browser)) == wrong
        choose(browser, "show", "right")
        assert len(cards(browser)) == NUM_QUERIES - wrong
    for show, sign in (("better", 1), ("worse", -1)):
        choose(browser, "show", show)
        changed = [sign * (query["ap"][1] - query["ap"][0]) > 0 for query in queries]
        assert len(cards(browser)) == sum(changed)
    choose(browser, "show", "all")
    person, camera = queries[0]["person"], queries[0]["camera"]
    choose(browser, "text", person)
    assert len(cards(browser)) == sum(q["person"] == person for q in queries)
    choose(browser, "text", "no such name")
    assert len(cards(browser)) == 0
    assert "No query fits" in browser.all("#cards")[0].text
    choose(browser, "text", "")
    choose(browser, "camera", camera)
    assert len(cards(browser)) == sum(q["camera"] == camera for q in queries)


@needs_browser
def test_lists_are_sorted_and_shown_as_asked(browser, report):
    _, out = report
    queries = data_of(out)["queries"]
    browser.open(out)
    for sort, sign in (("lowest", 1), ("highest", -1)):
        choose(browser, "sort", sort)
        names = [card.find_element("tag name", "h3").text for card in cards(browser)]
        expected = sorted(queries, key=lambda query: sign * query["ap"][0])
        assert names == [query["name"] for query in expected]
    assert len(browser.all("#cards .list")) == 2 * NUM_QUERIES
    browser.all("[name=list]")[0].click()
    assert len(browser.all("#cards .list")) == NUM_QUERIES
    assert {b.text for b in browser.all("#cards .list b")} == {"re-ranked"}
    junk = sum(first_list(query, 1).count(2) for query in queries)
    assert junk
    assert browser.all("#cards .junk") == []
    browser.all("[name=junk]")[0].click()
    assert len(browser.all("#cards .junk")) == junk
    browser.all("#filters [type=reset]")[0].click()
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    assert len(browser.all("#cards .list")) == 2 * NUM_QUERIES
    assert browser.all("#cards .junk") == []
    assert len(browser.all("#cards .shot:not(.query)")) == 2 * NUM_QUERIES * TOP
    browser.all("#cards summary")[0].click()
    browser.run("return new Promise((done) => setTimeout(done, 50))")
    rows = browser.all("#cards .card:first-child tbody tr")
    assert len(rows) == sum(len(ranked) for ranked in queries[0]["ranked"])


@needs_browser
def test_a_page_can_be_used_without_a_mouse(browser, report):
    from selenium.webdriver.common.keys import Keys

    _, out = report
    browser.open(out)
    opened = "return document.querySelectorAll('details.fold[open]').length"
    number = browser.run(opened)
    assert number >= 8
    summary = browser.all("details.fold > summary")[1]
    summary.send_keys(Keys.ENTER)
    assert browser.run(opened) == number - 1
    browser.all("[data-fold=close]")[0].send_keys(Keys.ENTER)
    assert browser.run(opened) == 0
    browser.all(".contents a")[2].send_keys(Keys.ENTER)  # opens what it leads to
    assert browser.run(opened) == 1
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(opened) == number
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(opened) == 1
    unnamed = browser.run(
        "return [...document.querySelectorAll('input, select, button')]"
        ".filter((e) => !(e.labels && e.labels.length) && !e.textContent.trim()).length"
    )
    assert unnamed == 0


@needs_browser
def test_a_page_is_dark_where_the_system_is(browser, report):
    _, out = report
    levels = []
    for scheme in ("light", "dark"):
        browser.open(out, scheme=scheme)
        style = browser.run(
            "const s = getComputedStyle(document.body);"
            "return [s.backgroundColor, s.color]"
        )
        levels.append([sum(map(int, color[4:-1].split(","))) for color in style])
    (light_ground, light_ink), (dark_ground, dark_ink) = levels
    assert light_ground > 600 > 150 > light_ink
    assert dark_ground < 150 < 600 < dark_ink
