"""A stand-in of the Hugging Face Hub: the endpoints that huggingface_hub uses to make a repository and to fill it.

It speaks HTTP on this machine and keeps what arrives in memory. huggingface_hub finds it by its endpoint.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

OLD_SPELLING = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")
"""huggingface_hub 2.4 sends objects of git-lfs as its HTTP client took them before."""
TOKEN = "hf_a_token_of_a_test_and_of_nothing_else"
USER = "me"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: list[str] = field(default_factory=list)

    @property
    def revision(self) -> str:
        contents = sorted((name, hashlib.sha256(content).digest()) for name, content in self.files.items())
        return hashlib.sha1(repr((len(self.commits), contents)).encode()).hexdigest()


@dataclass
class Hub:
    """What it holds, and how it misbehaves.

    endpoint: where it listens. uploads: objects by their sha256. requests: "METHOD path", in their order.
    refuse: path's beginning -> (status, words) that it answers with. drop: paths' beginnings whose connection is cut.
    """

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    drop: set[str] = field(default_factory=set)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{method} {path}")
        if any(path.startswith(start) for start in self.hub.drop):
            self.close_connection = True
            return
        for start, (status, words) in self.hub.refuse.items():
            if path.startswith(start):
                return self._json({"error": words}, status)
        if path.startswith("/api") and self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid credentials in Authorization header"}, 401)
        if method == "PUT" and path.startswith("/upload/"):
            if hashlib.sha256(body).hexdigest() != path.removeprefix("/upload/"):
                return self._json({"error": "other content"}, 400)
            self.hub.uploads[path.removeprefix("/upload/")] = body
            return self._json({})
        if method == "POST":
            return self._post(path, body)
        if path == "/api/whoami-v2":
            return self._json({"name": USER, "orgs": []})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/tree/\w+|/revision/\w+)?", path):
            return self._repository(match[1], match[2] or "")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            return self._file(method, match[1], match[3])
        return self._json({"error": f"nothing at {path}"}, 404)

    def _post(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            problem = problem_of_card(json.loads(body)["content"])
            errors = [{"message": problem}] if problem else []
            return self._json({"errors": errors, "warnings": []}, 400 if problem else 200)
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            answers = [{**entry, **self._action(entry["oid"])} for entry in objects]
            return self._json({"objects": answers, "transfer": "basic"})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if match is None or match[1] not in self.hub.repositories:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if match[2] == "preupload":
            modes = [
                {
                    "path": entry["path"],
                    "uploadMode": "lfs" if entry["path"].endswith((".safetensors", ".onnx", ".png")) else "regular",
                    "shouldIgnore": False,
                }
                for entry in json.loads(body)["files"]
            ]
            return self._json({"files": modes})
        return self._commit(match[1], [json.loads(line) for line in body.splitlines()])

    def _create(self, values: dict[str, Any]) -> None:
        name = f"{values.get('organization') or USER}/{values['name']}"
        if not name.startswith(f"{USER}/"):
            return self._json({"error": f"You don't have the rights to create a model under {name}"}, 403)
        if name in self.hub.repositories:
            return self._json({"error": "You already created this model repo"}, 409)
        private = values.get("visibility") == "private" or bool(values.get("private"))
        self.hub.repositories[name] = Repository(private)
        return self._json({"url": f"{self.hub.endpoint}/{name}", "name": name})

    def _action(self, oid: str) -> dict[str, Any]:
        """None for an object that is there already, as git-lfs has it."""
        if oid in self.hub.uploads:
            return {}
        return {"actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{oid}"}}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    repository.commits.append(value["summary"])
                case "file":
                    repository.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repository.files[value["path"]] = self.hub.uploads[value["oid"]]
                case "deletedFile":
                    del repository.files[value["path"]]
        url = f"{self.hub.endpoint}/{name}/commit/{repository.revision}"
        return self._json({"commitUrl": url, "commitOid": repository.revision})

    def _repository(self, name: str, part: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if part.startswith("/tree/"):
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in repository.files.items()
            ]
            return self._json(entries)
        siblings = [{"rfilename": path} for path in repository.files]
        return self._json({"id": name, "private": repository.private, "sha": repository.revision, "siblings": siblings})

    def _file(self, method: str, name: str, path: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None or path not in repository.files:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        content = repository.files[path]
        headers = {"X-Repo-Commit": repository.revision, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self._send(200, content, {**headers, "Content-Type": "application/octet-stream"}, method)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self._send(status, content, {"Content-Type": "application/json", **(headers or {})}, self.command)

    def _send(self, status: int, content: bytes, headers: dict[str, str], method: str) -> None:
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, text)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)


def problem_of_card(text: str) -> str | None:
    """What the Hub would refuse of a card's front matter (huggingface/hub-docs, modelcard.md); None: nothing."""
    from barlowctl.exports.licenses import LICENSES

    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        return "there is no metadata"
    data = yaml.safe_load(match[1])
    if data.get("license") not in LICENSES:
        return '"license" must be one of the list'
    if data["license"] == "other" and not {"license_name", "license_link"} <= data.keys():
        return "a license of one's own has a name and a link"
    lists = [key for key in ("tags", "datasets", "metrics") if not isinstance(data.get(key, []), list)]
    if lists:
        return f"{lists} must be lists"
    for model in data.get("model-index", []):
        for result in model["results"]:
            required = [result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]]
            required += [part for metric in result["metrics"] for part in (metric["type"], metric["value"])]
            if None in required:
                return "a result lacks something"
    return None


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """A stand-in that listens until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(hub: Hub, patch: pytest.MonkeyPatch, cache: Any, token: str | None = TOKEN) -> None:
    """huggingface_hub of this process, and of those that it starts, talks to the stand-in, with nothing else cached.

    It reads the environment when it is imported, so that what it read is changed too. Its storage is git-lfs here: the
    stand-in does not speak Xet, whose packages are of another program.
    """
    from huggingface_hub import constants

    variables = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    for name, value in variables.items():
        patch.setenv(name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        patch.delenv(name, raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)
    patch.setattr(constants, "ENDPOINT", hub.endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    patch.setattr(constants, "HF_STORED_TOKENS_PATH", str(cache / "stored_tokens"))
