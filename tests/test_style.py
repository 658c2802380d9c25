"""The style of the figures."""

import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import pytest
from PIL import Image

from topdb_tf.drawing.style import new_figure, save_figure, styled, svg_of


def drawn():
    with styled():
        figure = new_figure(4, 2)
        figure.subplots().plot([0, 1], [1, 0])
    return figure


def test_each_format_is_what_its_name_says(tmp_path):
    for name in ("figure.png", "figure.svg", "figure.pdf"):
        save_figure(drawn(), tmp_path / name)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size == (800, 400)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF-")
    root = ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_figure_gives_the_same_file(suffix, tmp_path):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        save_figure(drawn(), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.svg or \.pdf.*figure\.bmp"):
        save_figure(drawn(), tmp_path / "figure.bmp")


def test_a_figure_is_an_element_of_a_page():
    root = ElementTree.fromstring(svg_of(drawn()))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_settings_of_another_program_do_not_matter(tmp_path):
    # As in a `matplotlibrc`; usetex would need LaTeX.
    save_figure(drawn(), tmp_path / "as_is.png")
    svg = svg_of(drawn())
    others = {"text.usetex": True, "lines.linewidth": 9, "savefig.transparent": True}
    with mpl.rc_context({**others, "savefig.bbox": "tight"}):
        save_figure(drawn(), tmp_path / "other.png")
        assert svg_of(drawn()) == svg
        assert mpl.rcParams["lines.linewidth"] == 9  # and is as before
    expected, received = (tmp_path / f"{name}.png" for name in ("as_is", "other"))
    assert received.read_bytes() == expected.read_bytes()
