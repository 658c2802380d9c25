"""A page that is wrong fails, whatever is wrong with it."""

import subprocess

import pytest

from tests.documentation.blocks import blocks_of, command_lines
from tests.documentation.shell import Shell, extras_of_setup
from tests.documentation.shortening import EPOCHS, SETTINGS, shortened
from tests.documentation.test_pages import run_page


@pytest.fixture
def page(tmp_path):
    def write(text):
        (tmp_path / "page.md").write_text(text)
        return tmp_path / "page.md"

    return write


@pytest.fixture
def bare_shell(tmp_path):
    """A shell in an empty folder, enough for lines that must fail or need nothing."""
    return Shell(tmp_path, {"TOPDB_DATA": tmp_path}, {}, tmp_path / "exports")


def block(language, text, title=""):
    return f"```{language}{title}\n{text}\n```\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (block("bash", "topdb-tf evalute"), "No such command"),
        (block("bash", "topdb-tf evaluate --ranker"), "No such option"),
        (block("bash", "topdb-tf score none.npz"), "none.npz"),
        (block("bash", "topdb-tf evaluate runs/OTHER"), "runs/OTHER is not the folder"),
        (block("bash", "frobnicate --all"), "no test knows how to run `frobnicate`"),
        (block("bash", "topdb-tf info | head"), "without shell signs"),
        (block("bash", "topdb-tf info > file"), "without shell signs"),
        (block("bash", "pip install 'topdb-tf[gpus]'"), "no extra"),
        (block("bash", "pip install torchreid"), "no package of this repository"),
        (block("bash", "docker compose up"), "no compose.yaml"),
        (block("bash", "(cd nowhere && topdb-tf info)"), "no folder nowhere"),
        (block("bash", "cd serving"), "no test knows how to run `cd`"),
        (block("bash", "pytest tests/none.py"), "no tests/none.py"),
        (block("bash", "pytest -m fast"), "no marker fast"),
        (block("bash", "python none.py"), "there is no none.py"),
    ],
)
def test_a_line_that_is_wrong_fails_with_its_place(text, words, page, bare_shell):
    with pytest.raises(pytest.fail.Exception, match=r"page\.md:3: ") as failure:
        run_page(page(f"# Title\n\n{text}"), bare_shell)
    assert words in str(failure.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (block("python", "import topdb\n"), ModuleNotFoundError),
        (block("python", "from topdb_tf.runs.settings import Konfig"), ImportError),
        (block("python", "pixels"), NameError),
        (block("python", "x = ("), SyntaxError),
        (block("python", "assert 1 + 1 == 3"), AssertionError),
    ],
)
def test_python_that_is_wrong_fails(text, error, page, bare_shell):
    with pytest.raises(error):
        run_page(page(text), bare_shell)


def test_python_blocks_share_their_names_and_follow_bash(page, bare_shell):
    text = block("python", "a = 1") + block("python", "assert a == 1")
    run_page(page(text + block("python", "a / 0", ' title="b.py"')), bare_shell)
    assert (bare_shell.folder / "b.py").read_text() == "a / 0\n"  # for others to use


def test_a_traceback_tells_the_line_of_the_page(page, bare_shell):
    with pytest.raises(ZeroDivisionError) as failure:
        run_page(page("# Title\n\n" + block("python", "a = 1\na / 0")), bare_shell)
    assert failure.traceback[-1].lineno + 1 == 5  # title, empty, fence, a = 1, this


def test_lines_that_are_right_pass(page, bare_shell):
    lines = "# a comment\ntopdb-tf --version  # and another\npip install '.[torch]'"
    run_page(page(block("bash", lines)), bare_shell)


def test_a_block_without_an_end_is_told(page):
    with pytest.raises(ValueError, match=r"page\.md:2: the block has no end"):
        blocks_of(page("\n```bash\ntopdb-tf info\n"))


def test_blocks_are_read_with_place_language_and_title(page):
    text = 'Text\n\n    ```yaml title="a.yaml"\n    a:\n      b: 1\n    ```\n'
    (found,) = blocks_of(page(text))
    assert found.text == "a:\n  b: 1\n"
    assert (found.line, found.language, found.title) == (3, "yaml", "a.yaml")


def test_a_line_may_be_continued():
    text = "topdb-tf score a.npz \\\n    --json\n\n# comment\ntopdb-tf info\n"
    assert command_lines(text) == ["topdb-tf score a.npz --json", "topdb-tf info"]


def test_trainings_are_shortened_but_for_what_the_line_sets_itself():
    words = shortened(["fit", "--seeds", "5", "--set", "data.batch_size=4"])
    assert words[1:3] == ["--seeds", "2"]
    assert "data.batch_size=4" in words
    for key, value in {**SETTINGS, **EPOCHS}.items():
        assert (f"{key}={value}" in words) == (key != "data.batch_size")
    assert shortened(["evaluate", "runs/NAME"]) == ["evaluate", "runs/NAME"]


def test_the_extras_are_those_of_the_package():
    assert {"gpu", "torch", "onnx", "litert", "test", "docs"} <= extras_of_setup()


def test_bash_agrees_on_what_a_line_is():
    # `bash -n` reads every block of ours as we do: no line is broken in two.
    from tests.documentation.test_pages import PAGES

    for page in PAGES:
        for found in blocks_of(page):
            if found.language == "bash":
                subprocess.run(["bash", "-n"], input=found.text, text=True, check=True)
