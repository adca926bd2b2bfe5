"""The stand-in for the Hub with its other direction: repositories are created and written to."""

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fake_hub import COMMIT, FakeHub, Handler


class UploadHub(FakeHub):
    """Keeps what is uploaded in folders below `root`, by "model/owner/name" or "dataset/...".

    `commits` counts them, `created` has the requests that made repositories, `token` is the one
    that may write, `private` has what only its owner sees. Large files (all that aren't text
    here) come by the LFS protocol.
    """

    def __init__(self, root: Path, token: str):
        self.root, self.token = root, token
        self.commits, self.created, self.large = 0, [], {}
        self.private: set[str] = set()  # "model/owner/name"
        super().__init__({})

    @property
    def handler(self) -> type[Handler]:
        return _UploadHandler

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stored(self, kind: str, repo: str) -> dict[str, bytes]:
        folder = self.root / kind / repo
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class _UploadHandler(Handler):
    server: UploadHub

    def _json(self, body: object, status: int = 200) -> None:
        self._answer(status, json.dumps(body).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)", path)
        if asked is None:
            return super().do_GET()
        kind, repo = asked.groups()
        known = (self.server.root / kind / repo).exists()
        if not known or self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._answer(401, X_Error_Code="RepoNotFound")
        private = f"{kind}/{repo}" in self.server.private
        self._json({"id": repo, "sha": COMMIT, "private": private, "siblings": [], "tags": []})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rsplit("/", 1)[1]
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json({"error": "another content was announced"}, 400)
        self.server.large[oid] = body
        self._json({})

    def do_POST(self) -> None:
        server, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.log.append(("POST", path, None))
        if path.endswith("/lfs/objects/batch"):
            return self._batch(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            server.created.append(asked)
            repo = f"{asked['organization']}/{asked['name']}"
            kind = asked.get("type", "model")
            folder = server.root / kind / repo
            status = 409 if folder.exists() else 200
            if status == 200 and (asked.get("private") or asked.get("visibility") == "private"):
                server.private.add(f"{kind}/{repo}")
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "model":
                server.repos[repo] = folder
            prefix = "datasets/" if kind == "dataset" else ""
            return self._json({"url": f"{server.address}/{prefix}{repo}"}, status)
        kind, repo, action = re.match(r"/api/(\w+)s/([^/]+/[^/]+)/(\w+)/main", path).groups()
        folder = server.root / kind / repo
        if action == "preupload":
            return self._json({"files": [self._mode(f, folder) for f in json.loads(body)["files"]]})
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                continue
            content = (
                base64.b64decode(value["content"])
                if entry["key"] == "file"
                else server.large[value["oid"]]
            )
            target = folder / value["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        server.commits += 1
        url = f"{server.address}/{repo}/commit/{COMMIT}"
        self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def _mode(self, file: dict, folder: Path) -> dict:
        text = file["path"].endswith((".md", ".json", ".txt"))
        answer = {"path": file["path"], "uploadMode": "regular" if text else "lfs"}
        answer["shouldIgnore"] = False
        here = folder / file["path"]
        if here.exists():
            content = here.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content)
            answer["oid"] = (blob if text else hashlib.sha256(content)).hexdigest()
        return answer

    def _batch(self, asked: dict) -> None:
        objects = [
            {"oid": o["oid"], "size": o["size"],
             "actions": {"upload": {"href": f"{self.server.address}/lfs/{o['oid']}"}}}
            for o in asked["objects"]
        ]  # fmt: skip
        self._json({"transfer": "basic", "objects": objects})
