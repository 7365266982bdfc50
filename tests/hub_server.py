"""A small Hugging Face Hub on loopback, with what pushing and loading of models needs; for tests, in memory.

with HubServer({"token-of-anna": "anna"}) as hub:
    subprocess.run([...], env=hub.environment(cache, token="token-of-anna"))

Repositories have branches and commits; files named in `LFS` go through git LFS, the others through the commit itself.
The routes are those that huggingface_hub 2 calls when Xet is switched off.
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

LFS = (".safetensors", ".png")
LICENSES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "gpl-3.0", "openrail", "other", "unknown")
TASKS = ("text-generation", "feature-extraction", "fill-mask", "text-classification", "other")


@dataclass
class Repository:
    """A model repository: files by commit, commits by branch.

    Attributes:
        commits: id → (message, files); branches: name → id.
    """

    private: bool = False
    commits: dict[str, tuple[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, message: str, files: dict[str, bytes]) -> str:
        number = hashlib.sha1(f"{branch} {len(self.commits)} {message}".encode()).hexdigest()
        self.commits[number] = message, files
        self.branches[branch] = number
        return number

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches.get(revision, revision)][1]

    def messages(self) -> list[str]:
        return [message for message, _ in self.commits.values()]


class HubServer:
    """The server and what it holds.

    Attributes:
        users: token → user, all of whom may write to their own namespace only.
        readers: the tokens among them that may only read.
        repositories: user/name → `Repository`.
        blobs: LFS contents by their SHA-256.
        requests: "METHOD path" of each request, in order.
        broken: a route (regular expression on "METHOD path") that answers with error 500, as a server that goes down.
    """

    def __init__(self, users: dict[str, str], readers: tuple[str, ...] = ()):
        self.readers = readers
        self.users, self.repositories, self.blobs = users, {}, {}
        self.requests: list[str] = []
        self.broken: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, cache: Path, token: str | None = None) -> dict[str, str]:
        """Variables of a process that knows this Hub and nothing else: an empty cache, no login, no proxy."""
        variables = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        variables = {name: value for name, value in variables.items() if not name.startswith(("HF_", "HUGGING"))}
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        return variables | own | ({"HF_TOKEN": token} if token else {})

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Refused(Exception):
    def __init__(self, status: int, message: str, code: str = ""):
        self.status, self.message, self.code = status, message, code


def card_errors(text: str) -> list[str]:
    """What the Hub's validation of a card's YAML head would refuse, as far as it is written down."""
    head = re.match(r"---\n(.*?)\n---\n", text, flags=re.S)
    if head is None:
        return ["no YAML metadata at the beginning"]
    try:
        data = yaml.safe_load(head[1])
    except yaml.YAMLError as error:
        return [f"no valid YAML: {error}"]
    errors = []
    if data.get("license", "unknown") not in LICENSES:
        errors.append(f'"license" must be one of {", ".join(LICENSES)}')
    languages = data.get("language") or []
    if not all(re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)*|code|multilingual", str(name)) for name in _as_list(languages)):
        errors.append(f'"language" must be ISO 639 codes, found {languages}')
    if data.get("pipeline_tag", TASKS[0]) not in TASKS:
        errors.append(f'"pipeline_tag" is {data["pipeline_tag"]}')
    for name in ("tags", "datasets", "base_model"):
        if not all(isinstance(value, str) for value in _as_list(data.get(name, []))):
            errors.append(f'"{name}" must be strings')
    for model in data.get("model-index", []):
        errors += [] if isinstance(model.get("name"), str) else ['"model-index[].name" is required']
        for result in model.get("results", []):
            errors += _result_errors(result)
    return errors


def _result_errors(result: dict) -> list[str]:
    fields = (
        (result.get("task", {}), "type"),
        (result.get("dataset", {}), "type"),
        (result.get("dataset", {}), "name"),
        *((metric, name) for metric in result.get("metrics", [{}]) for name in ("type", "value")),
    )
    return [f'"model-index[].results[]" lacks "{name}"' for part, name in fields if part.get(name) is None]


def _as_list(value) -> list:
    return value if isinstance(value, list) else [value]


_ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", r"/api/models/([^/]+/[^/]+)/auth-check/write", "may_write"),
    ("POST", r"/api/models/([^/]+/[^/]+)/branch/(.+)", "branch"),
    ("POST", r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
    ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/lfs/([0-9a-f]{64})", "upload"),
    ("POST", r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
    ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", "tree"),
    ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", "info"),
    ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    ("HEAD", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
)


class _Handler(BaseHTTPRequestHandler):
    """Answers a request; `server.hub` is the `HubServer` whose state it reads and changes."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def handle_request(self):
        path = urlsplit(self.path).path
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        self.body = self.read_body()
        try:
            if self.hub.broken and re.search(self.hub.broken, request):
                raise _Refused(500, "out of order")
            for method, pattern, name in _ROUTES:
                found = re.fullmatch(pattern, path)
                if method == self.command and found:
                    groups = [None if group is None else unquote(group) for group in found.groups()]
                    getattr(self, name)(*groups)
                    return
            raise _Refused(404, f"no route {request}")
        except _Refused as refused:
            headers = {"X-Error-Message": refused.message}
            headers |= {"X-Error-Code": refused.code} if refused.code else {}
            self.answer({"error": refused.message}, refused.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *arguments):
        pass

    def answer(self, value, status: int = 200, headers: dict[str, str] | None = None):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
        for name, text in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise _Refused(401, "Invalid username or password.")
        return self.hub.users.get(token)

    def writes(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.hub.readers

    def repository(self, name: str, write: bool = False) -> Repository:
        user, repository = self.user(), self.hub.repositories.get(name)
        mine = user is not None and name.startswith(f"{user}/")
        if repository is None or (repository.private and not mine):
            raise _Refused(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write and not (mine and self.writes()):
            raise _Refused(403, "You don't have the rights to write to this repository")
        return repository

    def revision(self, repository: Repository, revision: str | None) -> str:
        number = repository.branches.get(revision or "main", revision)
        if number not in repository.commits:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return number

    def whoami(self):
        user = self.user()
        if user is None:
            raise _Refused(401, "Invalid username or password.")
        self.answer({"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}})

    def create(self):
        user, wanted = self.user(), json.loads(self.body)
        if user is None:
            raise _Refused(401, "Invalid username or password.")
        owner = wanted.get("organization") or user
        if owner != user or not self.writes():
            raise _Refused(403, f"You don't have the rights to create a model under the namespace {owner}")
        name = f"{owner}/{wanted['name']}"
        answer = {"url": f"{self.hub.url}/{name}", "name": name, "id": name}
        if name in self.hub.repositories:
            self.answer({"error": "You already created this model repo", **answer}, 409)
            return
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.hub.repositories[name] = Repository(bool(private))
        self.hub.repositories[name].commit("main", "initial commit", {".gitattributes": b""})
        self.answer(answer)

    def validate(self):
        errors = card_errors(json.loads(self.body)["content"])
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        if self.headers.get("Accept") == "text/plain":
            answer = "\n".join(f"- Error: {error}" for error in errors).encode()
        self.answer(answer, 400 if errors else 200)

    def may_write(self, name: str):
        self.repository(name, write=True)
        self.answer({})

    def branch(self, name: str, branch: str):
        repository = self.repository(name, write=True)
        repository.branches[branch] = repository.branches["main"]
        self.answer({})

    def preupload(self, name: str, revision: str):
        repository = self.repository(name, write=True)
        self.revision(repository, revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.answer({"files": files})

    def batch(self, name: str):
        self.repository(name, write=True)
        objects = [
            part
            if part["oid"] in self.hub.blobs
            else {**part, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{part['oid']}"}}}
            for part in json.loads(self.body)["objects"]
        ]
        self.answer({"transfer": "basic", "objects": objects})

    def upload(self, number: str):
        if hashlib.sha256(self.body).hexdigest() != number:
            raise _Refused(400, "the content is not what its name says")
        self.hub.blobs[number] = self.body
        self.answer({})

    def commit(self, name: str, branch: str):
        repository = self.repository(name, write=True)
        files = dict(repository.files(self.revision(repository, branch)))
        message = ""
        for line in filter(None, self.body.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        number = repository.commit(branch, message, files)
        self.answer({"success": True, "commitOid": number, "commitUrl": f"{self.hub.url}/{name}/commit/{number}"})

    def info(self, name: str, revision: str | None):
        repository = self.repository(name)
        number = self.revision(repository, revision)
        files = [{"rfilename": path} for path in sorted(repository.files(number))]
        self.answer(
            {
                "id": name,
                "modelId": name,
                "sha": number,
                "private": repository.private,
                "siblings": files,
                "tags": [],
            }
        )

    def tree(self, name: str, revision: str):
        repository = self.repository(name)
        files = repository.files(self.revision(repository, revision))
        self.answer([self.entry(path, content) for path, content in sorted(files.items())])

    def entry(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if path.endswith(LFS):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry

    def resolve(self, name: str, revision: str, path: str):
        repository = self.repository(name)
        number = self.revision(repository, revision)
        content = repository.files(number).get(path)
        if content is None:
            headers = {
                "X-Repo-Commit": number,
                "X-Error-Code": "EntryNotFound",
                "X-Error-Message": "Entry not found",
            }
            self.answer({"error": "Entry not found"}, 404, headers)
            return
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.answer(content, headers={"X-Repo-Commit": number, "ETag": tag, "X-Linked-Size": str(len(content))})
