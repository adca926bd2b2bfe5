"""A local stand-in for the Hugging Face Hub: what `from_pretrained` asks of it, and its failures.

HF_ENDPOINT leads huggingface_hub here; it is read when the library is imported, so whoever wants
this server sets `FakeHub.environment` for a process of its own.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from quiet_handler import QuietHandler

COMMIT = "c0ffee" + "0" * 34


class FakeHub(ThreadingHTTPServer):
    """Serves the folders `repos` ({"owner/name": folder}); stops when its `with` block ends.

    Faults: `status` answers everything with that HTTP status; `gated` repositories refuse as gated
    ones do; `cut_after` closes the next transfer of a large file after that many bytes,
    `stall_after` sends no more after that many, and sets `stalled`.
    `log` lists (method, path, Range header), `tokens` the Authorization headers.
    """

    daemon_threads = True

    @property
    def handler(self) -> type[BaseHTTPRequestHandler]:
        return Handler

    def __init__(self, repos: dict[str, Path]):
        self.repos = repos
        self.status = self.cut_after = self.stall_after = None
        self.stalled = threading.Event()
        self.gated: set[str] = set()
        self.log: list[tuple[str, str, str | None]] = []
        self.tokens: set[str | None] = set()
        super().__init__(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead huggingface_hub here."""
        return {
            "HF_ENDPOINT": f"http://127.0.0.1:{self.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_ETAG_TIMEOUT": "120",  # on a busy machine a thread may wait for its turn
            "HF_HUB_DOWNLOAD_TIMEOUT": "120",
            "no_proxy": "127.0.0.1",
        }

    def fetched(self, name: str) -> list[str | None]:
        """The Range header of each GET for the file `name`."""
        return [range_ for method, path, range_ in self.log if method == "GET" and name in path]


class Handler(QuietHandler):
    server: FakeHub
    empty = b"{}"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server, path = self.server, unquote(urlsplit(self.path).path)
        server.log.append((self.command, path, self.headers.get("Range")))
        server.tokens.add(self.headers.get("Authorization"))
        parts = path.strip("/").split("/")
        about = parts[:2] == ["api", "models"]  # about a repository, not one of its files
        name = "/".join(parts[2:4] if about else parts[:2])
        if server.status:
            self._answer(server.status)
        elif name in server.gated:
            self._answer(403, X_Error_Code="GatedRepo")
        elif name not in server.repos:
            self._answer(401, X_Error_Code="RepoNotFound")
        elif about:
            self._about(name, listing=parts[4:5] == ["tree"])
        else:
            self._file(server.repos[name] / "/".join(parts[4:]))  # owner/name/resolve/revision/...

    def _about(self, name: str, listing: bool):
        folder = self.server.repos[name]
        files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*"))}
        if listing:
            about = [
                {"type": "file", "path": path, "size": file.stat().st_size, "oid": "0" * 40}
                for path, file in files.items()
                if file.is_file()
            ]
        else:
            siblings = [{"rfilename": path} for path in files]
            about = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
            about |= {"private": False, "gated": False}
        self._answer(200, json.dumps(about).encode(), Content_Type="application/json")

    def _file(self, file: Path):
        if not file.is_file():
            return self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        content = file.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].rstrip("-"))
        body, headers = content[start:], {"Accept-Ranges": "bytes", "X-Repo-Commit": COMMIT}
        headers |= {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        headers |= {"Content-Length": str(len(body))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        # Small files come whole: only a large one is in the middle when a connection breaks.
        limit = self.server.cut_after or self.server.stall_after
        if self.command == "GET" and len(body) > 100_000 and limit is not None:
            body, self.close_connection = body[:limit], True
        self._answer(206 if start else 200, body, **headers)
        if self.close_connection and self.server.stall_after:
            self.server.stall_after = None
            self.server.stalled.set()
            self.rfile.read(1)  # returns when the client is gone
        self.server.cut_after = None if self.close_connection else self.server.cut_after
