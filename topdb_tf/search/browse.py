"""A page to try queries on: drop an image, see what an index finds for it.

It shows the people in the images of the index, so it is for this machine alone unless
another address is named, loads nothing from elsewhere and lets no other site in.
"""

import ipaddress
import json
import os
import socket
import time
from pathlib import Path

import jinja2
import numpy as np
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from topdb_tf.data.image_files import named_record
from topdb_tf.data.records import camids_of, pids_of
from topdb_tf.embed.embed import Embedding
from topdb_tf.embed.errors import BadImageError, Failure, ServingError
from topdb_tf.embed.model_probes import check_same_model, probe_features
from topdb_tf.embed.projection import read_projection
from topdb_tf.embed.source import Source, open_client
from topdb_tf.files import plain
from topdb_tf.search.filters import Filter
from topdb_tf.search.query import QueryResult, Searcher
from topdb_tf.texts import one_line

_MOST = 1000  # images of an answer: a page shows no more in good time
_FILES = Path(__file__).parent / "page"
_TYPES = {"browse.css": "text/css", "browse.js": "text/javascript"}
_IMAGES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PN": "image/png"}
_ROUTES = Map(
    [
        Rule("/", endpoint="page", methods=["GET"]),
        Rule("/files/<name>", endpoint="file", methods=["GET"]),
        Rule("/images/<int:number>", endpoint="image", methods=["GET"]),
        Rule("/query", endpoint="query", methods=["POST"]),
    ]
)
_HEADERS = {
    "Cache-Control": "no-store",  # no picture of a person stays with the browser
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def open_page(
    folder: Path,
    source: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    top: int = 10,
    **limits,
) -> BaseWSGIServer:
    """Returns the server of a page on which an index is asked; `serve_forever` runs it.

    Args:
        folder: Folder of the index.
        source: What embeds the images. Without a model or server it is the model that
            the index was built with.
        host: Address to listen on.
        port: Port, 0 for any that is free.
        top: Images of an answer, until the page is told another number.
        **limits: `max_distance`, `false_match_rate` and `parameters` of
            `topdb_tf.search.query.Searcher`.

    Raises:
        FileNotFoundError, ServingError: If something is missing, or a server fails.
        ValueError: If the address cannot be listened on, or as `query_index` does.
    """
    searcher = Searcher(folder, source, **limits)
    with _listening(host, port) as listener:
        page = BrowsePage(searcher, top=top, is_private=is_loopback(host))
        server = make_server(
            host,
            port,
            page,
            threaded=True,
            request_handler=_QuietHandler,
            fd=listener.fileno(),
        )
    return server


def address_of(server: BaseWSGIServer) -> str:
    """Returns the address of a page for a browser."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}/"


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class BrowsePage:
    """The page of an index, as a WSGI application.

    Args:
        searcher: The opened index.
        top: Images of an answer, until the page is told another number.
        is_private: Whether only the names of this machine are answered to, so that no
            site can give itself out as the page.
    """

    def __init__(self, searcher: Searcher, *, top: int = 10, is_private: bool = True):
        self._searcher = searcher
        self._top = top
        self._client = open_client(searcher.source)
        pca = searcher.source.pca
        self._reduced = read_projection(pca).reduced if pca else np.asarray
        self._probes = self._reduced(probe_features(self._client))
        check_same_model(self._probes, searcher.index.manifest.model)
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined
        )
        self._template = environment.from_string(
            (_FILES / "browse.html").read_text(encoding="utf-8")
        )

        class PageRequest(Request):
            trusted_hosts = ["127.0.0.1", "localhost", "[::1]"] if is_private else None
            max_content_length = 2**26  # more than an image that is not refused

        self._request = PageRequest

    def __call__(self, environ, start_response):
        with self._request(environ) as request:
            try:
                response = self._response(request)
            except HTTPException as error:
                response = _error(error.description, error.code)
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _response(self, request):
        host = request.host  # checked before anything else
        adapter = _ROUTES.bind(host, path_info=request.path)
        endpoint, values = adapter.match(method=request.method)
        if endpoint == "file":
            return _file(**values)
        if endpoint == "image":
            return self._image(**values)
        if endpoint == "page":
            return self._page()
        try:
            return _json(plain(self._answer(request)))
        except (ValueError, ServingError, OSError) as error:
            return _error(one_line(error), 400)

    def _page(self):
        self._searcher.refresh()
        index, threshold = self._searcher.index, self._searcher.threshold
        html = self._template.render(
            name=index.folder.name,
            num_images=len(index),
            manifest=index.manifest,
            threshold=threshold and threshold.line(),
            cameras=index.entries.cameras(),
            has_times=bool(
                np.isfinite(index.entries.times[index.entries.is_live]).any()
            ),
            top=self._top,
            most=_MOST,
        )
        return Response(html, mimetype="text/html")

    def _image(self, number):
        """Returns the file of an image of the index, if it is one and is there."""
        from topdb_tf.data.checks.image_faults import decode_contents

        entries = self._searcher.index.entries
        row = int(np.searchsorted(entries.ids, number))
        if row == len(entries.ids) or entries.ids[row] != number:
            raise NotFound("There is no such image in the index.")
        path = Path(entries.paths[row])
        if not entries.is_live[row] or not path.is_file():
            raise NotFound("The image is not where it was when it was indexed.")
        contents = path.read_bytes()
        mimetype = _IMAGES.get(contents[:3])
        if mimetype is None or decode_contents(contents)[1]:
            raise NotFound("The file is no image any more.")
        return Response(contents, mimetype=mimetype)

    def _answer(self, request) -> QueryResult:
        image = request.files.get("image")
        if image is None or not image.filename:
            raise ValueError("Choose an image, a JPEG or PNG file.")
        form = request.form
        top = _whole_number(form.get("top") or self._top)
        if top is None or not 1 <= top <= _MOST:
            raise ValueError(
                f"The number of images must be a whole number from 1 to {_MOST}. "
                f"Received: {form['top']}"
            )
        camids = [text for text in form.getlist("camera") if text]
        among = Filter(camids, form.get("since") or None, form.get("until") or None)
        self._searcher.refresh()
        items = self._embedded(Path(image.filename), image.read())
        return self._searcher.answer(items, top=top, among=among)

    def _embedded(self, path, contents):
        start = time.perf_counter()
        try:
            features = self._client.embed([contents]).embeddings
        except BadImageError as error:  # which has the contents, and no name
            failure = Failure(path, error.failure.reason)
            raise BadImageError(failure) from error
        seconds = time.perf_counter() - start
        records = [named_record(path)]
        return Embedding(
            self._reduced(features),
            [str(path)],
            pids_of(records),
            camids_of(records),
            probes=self._probes,
            seconds=seconds,
        )


class _QuietHandler(WSGIRequestHandler):
    def log(self, *_):
        """Says nothing of requests."""


def _listening(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            "The page must have an address of this machine (--host) and a port that "
            "is free (--port; 0 takes any). "
            f"Received: {host}, port {port} ({os.strerror(error.errno)})"
        ) from error


def _file(name):
    if name not in _TYPES:
        raise NotFound("There is no such file.")
    return Response((_FILES / name).read_bytes(), mimetype=_TYPES[name])


def _json(value, status=200):
    return Response(json.dumps(value), status, mimetype="application/json")


def _error(text, status):
    return _json({"error": text}, status)


def _whole_number(text):
    try:
        return int(text)
    except ValueError:
        return None
