"""A hub on loopback, which answers the client of Hugging Face as theirs does."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_user"  # whoever has it may write
LFS = (".h5",)


class FakeHub(ThreadingHTTPServer):
    """Repositories in memory: `repositories["user/name"]["config.json"]` is bytes.

    Anybody reads, who has `TOKEN` writes; `private` repositories are not even there for
    others, as on the hub.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.private = {}, set()
        self.objects, self.commits = {}, []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def served():
    """Yields a hub that answers until the end of the block."""
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def use(monkeypatch, address, cache, token=TOKEN):
    """Has the client ask the hub at an address, and keep files below a folder."""
    import huggingface_hub
    from huggingface_hub import constants, hf_api

    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    monkeypatch.setattr(hf_api.api, "token", token or False)
    monkeypatch.setenv("HF_TOKEN", token)
    huggingface_hub.close_session()  # keeps a connection to the hub of the last test


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        repository, _, place = self.path.strip("/").partition("/resolve/")
        files = self.server.repositories.get(repository)
        if files is None or (repository in self.server.private and not self._is_user()):
            return self._refuse(401, "RepoNotFound")
        name = place.partition("/")[2]
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha256(files[name])}"'}
        return self._answer(files[name], headers=headers)

    def do_PUT(self):
        content = self._body()
        self.server.objects[_sha256(content)] = content
        self._answer(b"")

    def do_POST(self):
        body = self._body()
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if not self._is_user():
            return self._refuse(401, "", "Invalid username or password.")
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._lfs(json.loads(body))
        repository, action, _ = self.path.removeprefix("/api/models/").rsplit("/", 2)
        if action == "preupload":
            return self._preupload(json.loads(body))
        return self._commit(repository, body)

    def _create(self, asked):
        name = f"{asked['organization'] or 'user'}/{asked['name']}"
        if not name.startswith("user/"):
            return self._refuse(403, "", "You don't have the rights to create a model")
        is_new = name not in self.server.repositories
        self.server.repositories.setdefault(name, {})
        answer = {"url": f"{self.server.address}/{name}", "name": name, "id": name}
        return self._answer(answer, 200 if is_new else 409)

    def _preupload(self, asked):
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
            }
            for file in asked["files"]
        ]
        self._answer({"files": modes})

    def _lfs(self, asked):
        objects = [
            {
                **file,
                "actions": {"upload": {"href": f"{self.server.address}/put/"}},
            }
            for file in asked["objects"]
        ]
        self._answer({"transfer": "basic", "objects": objects})

    def _commit(self, repository, body):
        files = self.server.repositories[repository]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        self.server.commits.append(repository)
        url = f"{self.server.address}/{repository}/commit/1"
        self._answer({"commitUrl": url, "commitOid": "1"})

    def _is_user(self):
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _refuse(self, status, code, words=""):
        headers = {"X-Error-Code": code, "X-Error-Message": words}
        self._answer({"error": words}, status, headers=headers)

    def _answer(self, content, status=200, *, headers=()):
        content = (
            content if isinstance(content, bytes) else json.dumps(content).encode()
        )
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
