"""A local stand-in for the two calls that kagglehub makes to download a dataset.

kagglehub has no setting for another server. With KAGGLE_API_ENVIRONMENT=LOCALHOST it calls
http://localhost, and `http_proxy` then sends those calls to any port, so no patch is needed: the
same trick works in a test and in a notebook's kernel.
"""

import base64
import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

DOWNLOAD = "/api/v1/datasets.DatasetApiService/DownloadDataset"
ARCHIVE = "/archive.zip"


def zip_folder(folder: Path) -> bytes:
    """All files below `folder` as an archive with paths relative to it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return buffer.getvalue()


class FakeKaggle(ThreadingHTTPServer):
    """Serves `archive` as the dataset `handle` ("OWNER/SLUG"); stops when its `with` block ends.

    Faults: `status` answers the API call with that HTTP status; `cut_after` closes the next
    transfer after that many bytes; `wrong_md5` announces another checksum; `announce_md5` = False
    none at all.
    `log` lists (method, path, Range header), `tokens` holds the Authorization headers.
    """

    daemon_threads = True

    def __init__(self, handle: str, archive: bytes):
        self.handle, self.archive = handle, archive
        self.status = self.cut_after = None
        self.wrong_md5, self.announce_md5 = False, True
        self.log: list[tuple[str, str, str | None]] = []
        self.tokens: set[str | None] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead kagglehub here."""
        proxy = f"http://127.0.0.1:{self.server_port}"
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": proxy,
            "no_proxy": "127.0.0.1",
            "KAGGLEHUB_VERBOSITY": "error",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeKaggle

    def log_message(self, *args):
        pass

    def _note(self) -> str:
        path = urlsplit(self.path).path  # through the proxy setting, path is a whole address
        self.server.log.append((self.command, path, self.headers.get("Range")))
        self.server.tokens.add(self.headers.get("Authorization"))
        return path

    def _answer(self, status: int, body: bytes = b"", **headers: str):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = f"{request.get('ownerSlug')}/{request.get('datasetSlug')}" == self.server.handle
        path = self._note()
        status = self.server.status or (302 if path == DOWNLOAD and known else 404)
        if status == 302:
            self._answer(302, Location=ARCHIVE)
        else:
            self._answer(status, b'{"message": "made up"}', Content_Type="application/json")

    def do_GET(self):
        self._note()
        server = self.server
        wrong = b"x" if server.wrong_md5 else b""
        md5 = base64.b64encode(hashlib.md5(server.archive + wrong).digest()).decode()
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].rstrip("-"))
        body = server.archive[start:]
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(body))}
        if server.announce_md5:
            headers["x-goog-hash"] = f"md5={md5}"
        if server.cut_after is not None:
            body, server.cut_after = body[: server.cut_after], None
            self.close_connection = True
        self._answer(206 if start else 200, body, **headers)
