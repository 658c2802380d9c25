"""`topdb-tf index browse`: the page of an index, in a browser and without."""

import io
import json
import shutil
import signal
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager

import pytest
from werkzeug.test import Client

from tests import browser as chromium
from tests.serving.test_embed import GALLERY, QUERY, refused, topdb, write_images
from topdb_tf.data.records import IdNames
from topdb_tf.embed.source import Source
from topdb_tf.search import query
from topdb_tf.search.browse import BrowsePage, address_of, open_page
from topdb_tf.search.changes import add_entries
from topdb_tf.search.query import Searcher

# A folder is often called after a person, and a name may be anything.
HOSTILE = "<script>owned=1<&>'\"<img src=x onerror=owned=1>"
NAME = "0001_c1s1_01_00.png"


@pytest.fixture(scope="module")
def place(model_folder, tmp_path_factory):
    """A folder with `query` images, and `people.index` of images of hostile names."""
    place = tmp_path_factory.mktemp("browse")
    write_images(place / "query", QUERY)
    (place / HOSTILE).mkdir()
    gallery = write_images(place / HOSTILE / "gallery", GALLERY)
    model = ("--model", model_folder / "1")
    answer = topdb("index", "build", gallery, *model, "--out", place / "people.index")
    assert answer.exit_code == 0, answer.output
    return place


@pytest.fixture(scope="module", autouse=True)
def calibrated():
    """A threshold as if the run of the model were calibrated: 500 apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "_threshold", lambda *_: query.Threshold(500.0, 0.01))
        yield


@pytest.fixture(scope="module")
def page(place):
    """A client of the page without a server."""
    return Client(BrowsePage(Searcher(place / "people.index", Source()), top=3))


def ask(page, image, name=NAME, **form):
    """Returns the status and the answer to an upload."""
    contents = image if isinstance(image, bytes) else image.read_bytes()
    answer = page.post("/query", data={"image": (io.BytesIO(contents), name), **form})
    return answer.status_code, answer.json


def command(place, image, *arguments):
    """Returns what the command finds for the same image."""
    answer = topdb("index", "query", place / "people.index", image, *arguments)
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


@pytest.mark.parametrize("form", [{}, {"top": 1}, {"top": 9, "camera": "2"}])
def test_the_page_finds_what_the_command_finds(place, page, form):
    image = place / "query" / NAME
    status, answer = ask(page, image, **form)
    options = ["--top", form.get("top", 3), "--json"]
    options += ["--camera", form["camera"]] if "camera" in form else []
    expected = command(place, image, *options)
    assert status == 200
    (asked,), (asked_by_command,) = answer["queries"], expected["queries"]
    assert (asked["pid"], asked["camid"]) == (1, 1)
    assert asked["found"] == asked_by_command["found"]
    assert asked["found"]
    assert answer["threshold"] == expected["threshold"]


@pytest.mark.parametrize("contents", [b"", b"no image"])
def test_a_bad_image_has_the_words_of_the_command(
    place, page, contents, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jpg").write_bytes(contents)
    said = topdb("index", "query", place / "people.index", "bad.jpg").stderr
    status, answer = ask(page, contents, "bad.jpg")
    assert (status, f"Error: {answer['error']}") == (400, said.splitlines()[-1])
    assert "path=bad.jpg" in said


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"top": "0"}, "1 to 1000. Received: 0"),
        ({"top": "many"}, "Received: many"),
        ({"camera": "1.5"}, "must be one of the index: 1, 2. Received: 1.5"),
        ({"image": ""}, "Choose an image"),
    ],
)
def test_a_form_that_does_not_fit_is_explained(place, page, form, words):
    image = (io.BytesIO((place / "query" / NAME).read_bytes()), NAME)
    answer = page.post("/query", data={"image": image, **form})
    assert answer.status_code == 400
    assert words in answer.json["error"]


def test_only_images_of_the_index_are_served(place, page, tmp_path):
    """By their ids: no path can be asked for, and no other file becomes an image."""
    folder, images = place / "people.index", place / HOSTILE / "gallery"
    found = ask(page, place / "query" / NAME)[1]["queries"][0]["found"]
    answer = page.get(f"/images/{found[0]['id']}")
    assert answer.mimetype == "image/png"
    assert answer.data in [path.read_bytes() for path in images.iterdir()]
    image = place / "query" / NAME
    for path in (
        "/images/99",
        "/images/-1",
        f"/images/{image}",
        "/images/..%2f..%2fquery%2f" + NAME,
        "/files/..%2fbrowse.py",
        "/files/browse.html",
        f"/{image}",
        "/etc/passwd",
    ):
        assert page.get(path).status_code == 404, path
    secret, gone = tmp_path / "secret.txt", tmp_path / "gone.png"
    secret.write_text("no image")
    out, features = tmp_path / "other.index", Searcher(folder, Source()).index.features
    shutil.copytree(folder, out)
    add_entries(out, features[:2], [str(secret), str(gone)])
    other = Client(BrowsePage(Searcher(out, Source())))
    assert [other.get(f"/images/{id}").status_code for id in (4, 5)] == [404, 404]
    topdb("index", "remove", out, "--path", str(secret), "--prefix", str(images))
    left = ask(other, image)[1]["queries"][0]["found"]  # the index is read anew
    assert [image["path"] for image in left] == [str(gone)]
    assert other.get("/images/0").status_code == 404


def test_cameras_are_chosen_by_the_names_that_were_written(place, tmp_path):
    out = tmp_path / "named.index"
    shutil.copytree(place / "people.index", out)
    features = Searcher(out, Source()).index.features
    names = IdNames({1: "<anna>"}, {1: "back & yard"})
    add_entries(out, features[:1], ["a"], pids=[1], camids=[1], names=names)
    named = Client(BrowsePage(Searcher(out, Source())))
    assert "<option>back &amp; yard</option>" in named.get("/").text
    answer = ask(named, place / "query" / NAME, camera="back & yard")[1]
    (found,) = answer["queries"][0]["found"]
    assert (found["person"], found["camera"]) == ("<anna>", "back & yard")


def test_no_other_site_gets_in(place, page):
    for host in ("evil.example", "people.localhost.evil.example", "10.0.0.1:7860"):
        assert page.get("/", headers={"Host": host}).status_code == 400
    answer = page.get("/", headers={"Host": "localhost:7860"})
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Cache-Control"] == "no-store"
    assert page.get("/query").status_code == 405
    searcher = Searcher(place / "people.index", Source())
    public = Client(BrowsePage(searcher, is_private=False))
    assert public.get("/", headers={"Host": "people.example"}).status_code == 200


@contextmanager
def served(place, **settings):
    server = open_page(place / "people.index", Source(), port=0, **settings)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield address_of(server)
    finally:
        server.shutdown()
        thread.join(10)


@pytest.mark.skipif(bool(chromium.missing()), reason=f"{chromium.missing()}")
def test_in_a_browser_an_image_brings_its_list(place):
    image = place / "query" / NAME
    (place / "bad.jpg").write_bytes(b"no image")
    expected = command(place, image, "--top", 3, "--json")
    expected = expected["queries"][0]["found"]
    assert {image["is_same_person"] for image in expected} == {True, False}
    with chromium.Browser() as browser, served(place, top=3) as page:
        browser.open(page)
        (chosen,) = browser.all("#image")
        chosen.send_keys(str(image))
        wait_for(lambda: len(browser.all("#found li")) == 3)
        wait_for(
            lambda: browser.run(
                "return [...document.images].every(image => image.naturalWidth > 0)"
            )
        )
        texts = [element.text.split("\n") for element in browser.all("#found li")]
        assert texts == [
            [
                f"{image['rank']}. distance {image['distance']:.6g}",
                f"person {image['person'] or '?'}, camera {image['camera']}",
                "✓ same person" if image["is_same_person"] else "✗ another person",
                image["path"],
            ]
            for image in expected
        ]
        assert HOSTILE in texts[0][3]
        assert not browser.run("return 'owned' in window")
        assert "same person: at most 500 apart" in browser.all("#threshold")[0].text
        chosen.send_keys(str(place / "bad.jpg"))
        wait_for(lambda: "bad.jpg" in browser.all("#status.error")[0].text)
        assert not browser.all("#found li")
        own = (page, "blob:")
        assert not [url for url in browser.requests() if not url.startswith(own)]
        severe = [
            entry for entry in browser.messages() if "400" not in entry["message"]
        ]
        assert not severe


def wait_for(is_so, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except IndexError:
            pass
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_ends_the_page(place):
    """The command says the address, answers there, and ends without a complaint."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers = []

    def ask_and_stop():
        try:
            wait_for(lambda: is_open(port))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                answers.append(answer.read().decode())
        finally:
            signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=ask_and_stop)
    thread.start()
    answer = topdb("index", "browse", place / "people.index", "--port", port)
    thread.join()
    assert answer.exit_code == 0, answer.output
    assert f"is open at http://127.0.0.1:{port}/ until Ctrl-C" in answer.stdout
    assert "<h1>people.index</h1>" in answers[0]
    assert "4 images" in answers[0]


def is_open(port):
    with socket.socket() as try_it:
        return try_it.connect_ex(("127.0.0.1", port)) == 0


def test_what_cannot_be_opened_is_explained(place, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = topdb("index", "browse", place / "people.index", "--port", port)
        refused(answer, "--port; 0 takes any", f"port {port} (Address already in use)")
    answer = topdb("index", "browse", place / "people.index", "--host", "192.0.2.1")
    refused(answer, "an address of this machine")
    refused(topdb("index", "browse", tmp_path), "is no index")
    model = ("--model", tmp_path / "none")
    refused(topdb("index", "browse", place / "people.index", *model), "no model at")
