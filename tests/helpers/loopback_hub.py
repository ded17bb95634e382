"""A small Hub on 127.0.0.1: what the Hugging Face clients ask of the real one when they push and pull.

It answers as the clients' source reads (huggingface_hub 2.4, datasets 5.2, transformers 5.23), keeps everything in
memory, records every byte that reaches it, and can be told to fail. A route that it does not know fails the test.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USER = "artist"
WRITE_TOKEN = "hf_loopback_write_c1f5a09b"  # worth nothing anywhere else
READ_TOKEN = "hf_loopback_read_77d0e4"
LFS_FROM = 10_000  # bytes; and every parquet, safetensors or picture, as the real .gitattributes says
LFS_SUFFIXES = (".parquet", ".safetensors", ".png")
LICENCES = {"mit", "apache-2.0", "cc-by-4.0", "cc-by-nc-nd-4.0", "cc0-1.0", "other", "unknown"}


@dataclass(frozen=True)
class Request:
    """What reached the server."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Fault:
    """What to do instead of answering.

    A status; "before" or "after": cut the connection when the work was not or was done; "hang": never answer; "flip":
    one bit of the content is another one.
    """

    method: str
    pattern: str
    action: int | str
    times: int = 1
    after: int = 0  # requests that pass unharmed first
    headers: dict[str, str] = field(default_factory=lambda: {"Retry-After": "0"})
    hits: int = 0


@dataclass
class Commit:
    sha: str
    files: dict[str, bytes]
    message: str


@dataclass
class Repo:
    kind: str
    name: str
    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def add(self, branch: str, files: dict[str, bytes], message: str) -> Commit:
        parent = self.branches.get(branch, "")
        sha = hashlib.sha1(f"{self.kind}{self.name}{branch}{parent}{len(self.commits)}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, files, message)
        self.branches[branch] = sha
        return self.commits[sha]

    def find(self, revision: str) -> Commit | None:
        return self.commits.get(self.branches.get(revision, revision))

    @property
    def head(self) -> Commit:
        return self.commits[self.branches["main"]]


class Answer(Exception):
    """Raised anywhere below a route to end it."""

    def __init__(self, status: int, body: object = b"", headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = headers or {}


def refuse(status: int, message: str, code: str = "") -> Answer:
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    return Answer(status, {"error": message}, headers)


def is_lfs(path: str, size: int) -> bool:
    return size >= LFS_FROM or path.endswith(LFS_SUFFIXES)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def check_yaml(content: str) -> None:
    match = re.match(r"^\s*---\r?\n([\S\s]*?)\r?\n---[ \t]*(\r?\n|$)", content)
    try:
        data = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        raise Answer(400, {"errors": [{"message": f"Invalid YAML: {error}"}], "warnings": []}) from error
    licence = (data or {}).get("license")
    if licence is not None and licence not in LICENCES:
        message = f'"license" must be one of [{", ".join(sorted(LICENCES))}]'
        raise Answer(400, {"errors": [{"message": message}], "warnings": []})


class LoopbackHub:
    """The server: ``start``, use ``url``, look at ``repos``, ``received`` and ``unknown``, add to ``faults``."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.received: list[Request] = []
        self.unknown: list[str] = []
        self.renamed: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.commit_delay = 0.0  # seconds between reading a commit and making it, to let two of them meet
        self.lock = threading.Lock()
        self.awake = threading.Event()  # ends the requests that hang
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def start(self) -> LoopbackHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def forget(self) -> None:
        """Start afresh; repositories stay, since caches of the clients remember them."""
        self.awake.set()
        self.awake = threading.Event()
        self.received.clear()
        self.unknown.clear()
        self.faults.clear()
        self.commit_delay = 0.0

    def fail(self, method: str, pattern: str, action: int | str, **more: object) -> Fault:
        fault = Fault(method, pattern, action, **more)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def dataset(self, name: str) -> Repo:
        return self.repos["datasets", name]

    def create(self, kind: str, name: str, private: bool) -> Repo:
        repo = Repo(kind, name, private)
        repo.add("main", {".gitattributes": b"*.parquet filter=lfs\n"}, "initial commit")
        self.repos[kind, name] = repo
        return repo

    def fault_of(self, method: str, target: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and re.search(fault.pattern, target):
                    fault.hits += 1
                    if fault.after < fault.hits <= fault.after + fault.times:
                        return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    server_hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two would wait 40 ms for each other

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        hub = self.server_hub
        body = self._read()
        hub.received.append(Request(self.command, self.path, dict(self.headers.items()), body))
        fault = hub.fault_of(self.command, self.path)
        if fault is not None and fault.action not in ("after", "flip"):
            if fault.action == "hang":
                hub.awake.wait(60)
            if fault.action in ("before", "hang"):
                return self._cut()
            return self._send(Answer(int(fault.action), {"error": "told to fail"}, fault.headers))
        try:
            self._route(body)
            answer = Answer(500, {"error": "a route without an answer"})
        except Answer as given:
            answer = given
        if fault is not None and fault.action == "flip" and answer.body:
            answer.body = answer.body[:-9] + bytes([answer.body[-9] ^ 1]) + answer.body[-8:]
        elif fault is not None and fault.action == "after":
            return self._cut()
        return self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _may(self, write: bool = False) -> bool:
        """Whether the request carries a token that may; a wrong token is refused at once, as the Hub does."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given not in (WRITE_TOKEN, READ_TOKEN):
            raise refuse(401, "Invalid credentials in Authorization header")
        if write and given == READ_TOKEN:
            raise refuse(403, "You have read access but not the required permissions for this operation")
        return bool(given)

    def _repo(self, kind: str, name: str, write: bool = False) -> Repo:
        known = self._may(write)
        if name in self.server_hub.renamed:
            raise Answer(307, b"", {"Location": self.path.replace(name, self.server_hub.renamed[name], 1)})
        repo = self.server_hub.repos.get((kind, name))
        if repo is None or (not known and (repo.private or write)):
            raise refuse(404 if known else 401, "Repository not found", "RepoNotFound")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _route(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        for method, pattern, route in ROUTES:
            match = re.fullmatch(pattern, parts.path)
            if match and self.command in method:
                named = {name: unquote(value or "") for name, value in match.groupdict().items()}
                return route(self, body, query, **named)
        self.server_hub.unknown.append(f"{self.command} {self.path}")
        raise Answer(501, {"error": "the loopback Hub does not know this route"})

    def whoami(self, body, query):
        if not self._may():
            raise refuse(401, "Invalid username or password.")
        raise Answer(200, {"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})

    def create_repo(self, body, query):
        if not self._may(write=True):
            raise refuse(401, "Invalid username or password.")
        asked = json.loads(body)
        kind = asked.get("type", "model") + "s"
        name = f"{asked['organization'] or USER}/{asked['name']}"
        url = f"{self.server_hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
        with self.server_hub.lock:
            if (kind, name) in self.server_hub.repos:
                raise Answer(409, {"error": "You already created this repo", "url": url})
            self.server_hub.create(kind, name, asked.get("visibility") == "private" or asked.get("private") is True)
        raise Answer(200, {"url": url, "name": name})

    def info(self, body, query, kind, name, revision="main"):
        repo = self._repo(kind, name)
        commit = self._commit(repo, revision or "main")
        described = {
            "id": repo.name,
            "sha": commit.sha,
            "private": repo.private,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
        readme = commit.files.get("README.md", b"").decode()
        match = re.match(r"---\n([\S\s]*?)\n---", readme)
        try:
            card = yaml.safe_load(match[1]) if match else None
        except yaml.YAMLError:  # put there past the check of commits
            card = None
        raise Answer(200, {**described, "cardData": card, "siblings": [{"rfilename": one} for one in commit.files]})

    def settings(self, body, query, kind, name):
        repo = self._repo(kind, name, write=True)
        asked = json.loads(body)
        repo.private = asked.get("visibility", "private" if asked.get("private") else "public") == "private"
        raise Answer(200, {"private": repo.private})

    def branch(self, body, query, kind, name, branch):
        repo = self._repo(kind, name, write=True)
        if branch in repo.branches:
            raise refuse(409, "Reference already exists")
        repo.branches[branch] = repo.branches["main"]
        raise Answer(200, {})

    @staticmethod
    def _entry(path, content):
        entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if is_lfs(path, len(content)):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry

    def _entries(self, commit, folder, recursive):
        prefix = folder + "/" if folder else ""
        entries = {}
        for path, content in commit.files.items():
            if not path.startswith(prefix):
                continue
            steps = path[len(prefix) :].split("/")
            for depth in range(1, len(steps) if recursive else min(2, len(steps))):
                inner = prefix + "/".join(steps[:depth])
                entries[inner] = {"type": "directory", "path": inner, "size": 0, "oid": git_oid(inner.encode())}
            if recursive or len(steps) == 1:
                entries[path] = self._entry(path, content)
        return entries

    def tree(self, body, query, kind, name, revision, folder=""):
        commit = self._commit(self._repo(kind, name), revision)
        entries = self._entries(
            commit, folder.strip("/"), query.get("recursive", ["false"])[0].lower() in ("true", "1")
        )
        if folder.strip("/") and not entries:
            raise refuse(404, f"{folder} does not exist", "EntryNotFound")
        raise Answer(200, list(entries.values()))

    def paths_info(self, body, query, kind, name, revision):
        commit = self._commit(self._repo(kind, name), revision)
        asked = [path.strip("/") for path in parse_qs(body.decode()).get("paths", [])]
        entries = self._entries(commit, "", recursive=True)
        raise Answer(200, [entries[path] for path in asked if path in entries])

    def refs(self, body, query, kind, name):
        repo = self._repo(kind, name)
        branches = [
            {"name": one, "ref": f"refs/heads/{one}", "targetCommit": sha} for one, sha in repo.branches.items()
        ]
        raise Answer(200, {"branches": branches, "tags": [], "converts": []})

    def preupload(self, body, query, kind, name, revision):
        commit = self._commit(self._repo(kind, name, write=True), revision)
        files = []
        for file in json.loads(body)["files"]:
            lfs = is_lfs(file["path"], file["size"])
            present = commit.files.get(file["path"])
            oid = None if present is None else hashlib.sha256(present).hexdigest() if lfs else git_oid(present)
            mode = "lfs" if lfs else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise Answer(200, {"files": files})

    def lfs_batch(self, body, query, name, kind="models"):
        self._repo((kind or "models/").strip("/"), name, write=True)
        objects = []
        for asked in json.loads(body)["objects"]:
            described = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server_hub.objects:
                described["actions"] = {
                    "upload": {"href": f"{self.server_hub.url}/lfs-storage/{asked['oid']}?signed=1"},
                    "verify": {"href": f"{self.server_hub.url}/api/lfs-verify"},
                }
            objects.append(described)
        raise Answer(200, {"objects": objects, "transfer": "basic"})

    def lfs_put(self, body, query, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            raise refuse(400, "content does not match its digest")
        self.server_hub.objects[oid] = body
        raise Answer(200)

    def lfs_verify(self, body, query):
        self._may(write=True)
        asked = json.loads(body)
        stored = self.server_hub.objects.get(asked["oid"])
        raise Answer(200 if stored is not None and len(stored) == asked["size"] else 404)

    def validate_yaml(self, body, query):
        self._may()
        try:
            check_yaml(json.loads(body)["content"])
        except Answer as refused:
            if self.headers.get("Accept") == "text/plain":
                messages = [error["message"] for error in json.loads(refused.body)["errors"]]
                raise Answer(refused.status, "\n".join(messages).encode()) from refused
            raise
        raise Answer(200, {"errors": [], "warnings": []})

    def make_commit(self, body, query, kind, name, revision):
        repo = self._repo(kind, name, write=True)
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        header = lines[0]["value"]
        time.sleep(self.server_hub.commit_delay)
        with self.server_hub.lock:
            parent = self._commit(repo, revision)
            if header.get("parentCommit") not in (None, parent.sha):
                raise refuse(412, "A commit has happened since. Please refresh and try again.")
            files = dict(parent.files)
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    if value["oid"] not in self.server_hub.objects:
                        raise refuse(400, f"{value['path']}: the LFS object was not uploaded")
                    files[value["path"]] = self.server_hub.objects[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
                else:
                    raise refuse(400, f"unknown operation {line['key']}")
            check_yaml(files.get("README.md", b"").decode())
            commit = repo.add(revision, files, header["summary"])
        url = f"{self.server_hub.url}/{kind + '/' if kind != 'models' else ''}{name}/commit/{commit.sha}"
        raise Answer(200, {"success": True, "commitOid": commit.sha, "commitUrl": url, "hookOutput": ""})

    def resolve(self, body, query, name, revision, path, kind="models"):
        commit = self._commit(self._repo((kind or "models/").strip("/"), name), revision)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if path not in commit.files:
            answer = refuse(404, "Entry not found", "EntryNotFound")
            answer.headers["X-Repo-Commit"] = commit.sha
            raise answer
        content = commit.files[path]
        lfs = is_lfs(path, len(content))
        headers["ETag"] = f'"{hashlib.sha256(content).hexdigest() if lfs else git_oid(content)}"'
        if lfs:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2] or len(content)) + 1, len(content))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            raise Answer(206, content[start:end], headers)
        raise Answer(200, content, headers)


_REPO = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_PAGE = r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+?)"
_REVISION = r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create_repo),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("POST", "/api/lfs-verify", _Handler.lfs_verify),
    ("PUT", "/lfs-storage/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    ("GET", _REPO, _Handler.info),
    ("GET", f"{_REPO}/revision/{_REVISION}", _Handler.info),
    ("PUT", f"{_REPO}/settings", _Handler.settings),
    ("POST", f"{_REPO}/branch/(?P<branch>[^/]+)", _Handler.branch),
    ("GET", f"{_REPO}/refs", _Handler.refs),
    ("GET", f"{_REPO}/tree/{_REVISION}(?P<folder>/.*)?", _Handler.tree),
    ("POST", f"{_REPO}/paths-info/{_REVISION}", _Handler.paths_info),
    ("POST", f"{_REPO}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", f"{_REPO}/commit/{_REVISION}", _Handler.make_commit),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("HEAD GET", f"{_PAGE}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
]
