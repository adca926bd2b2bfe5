"""An object store on this machine: as much of S3 as pyarrow asks for, to read and to write.

Like the real one it knows no folders and no renaming, only whole objects under names: a file is
seen when its upload is complete, and moving is copying and deleting.
"""

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from quiet_handler import QuietHandler


class FakeBucket(ThreadingHTTPServer):
    """The bucket "shop"; stops when its `with` block ends.

    `files` holds the objects by name. Faults: `closed` refuses whoever shows no key; `locked`
    whoever writes a name that begins so; `failing` is the name of an object that can't be given.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes] | None = None):
        self.files = dict(files or {})
        self.closed = False
        self.locked: str | None = None
        self.failing: str | None = None
        self.uploads: dict[str, dict[int, bytes]] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)

    def address(self, path: str = "", bucket: str = "shop") -> str:
        """What pyarrow takes for a folder of this store."""
        where = f"scheme=http&region=us-east-1&endpoint_override=127.0.0.1:{self.server_port}"
        return f"s3://{bucket}{path and '/' + path}?{where}"


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Pieces, each behind a line with its size; then other lines up to an empty one."""
    while size := int(file.readline().split(b";")[0], 16):
        yield file.read(size)
        file.readline()
    while file.readline().strip():
        pass


class _Handler(QuietHandler):
    server: FakeBucket

    def _fail(self, status: int, code: str):
        error = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self._answer(status, error.encode(), Content_Type="application/xml")

    def _say(self, root: str, content: str = ""):
        self._answer(200, f"<{root}>{content}</{root}>".encode(), Content_Type="application/xml")

    def _body(self) -> bytes:
        """The request's body; clients cut it into chunks, twice: for HTTP, and for a checksum."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        else:
            body = b"".join(_chunks(self.rfile))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = b"".join(_chunks(io.BytesIO(body)))
        return body

    def _any(self):
        server, parts = self.server, urlsplit(self.path)
        bucket, _, name = unquote(parts.path)[1:].partition("/")
        options = {key: value[0] for key, value in parse_qs(parts.query, True).items()}
        body, writes = self._body(), self.command in ("PUT", "POST", "DELETE")
        locked = writes and server.locked is not None and name.startswith(server.locked)
        if server.closed and "Authorization" not in self.headers or locked:
            self._fail(403, "AccessDenied")
        elif bucket != "shop":
            self._fail(404, "NoSuchBucket")
        elif writes:
            getattr(self, f"_{self.command}")(name, options, body)
        else:
            self._read(name, options)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any

    def _read(self, name: str, options: dict[str, str]):
        files = self.server.files
        if not name:
            begin = options.get("prefix", "")
            found = sorted(key for key in files if key.startswith(begin))
            date = "<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
            entries = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(files[key])}</Size>{date}</Contents>"
                for key in found[: int(options.get("max-keys", 1000))]
            )
            self._say("ListBucketResult", f"<KeyCount>{len(found)}</KeyCount>{entries}")
        elif name == self.server.failing:
            self._fail(503, "InternalError")
        elif name not in files:
            self._fail(404, "NoSuchKey")
        else:
            first, last = re.fullmatch(
                r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-")
            ).groups()
            body = files[name][int(first) : int(last) + 1 if last else None]
            self._answer(206 if "Range" in self.headers else 200, body, Content_Type="image/png")

    def _PUT(self, name: str, options: dict[str, str], body: bytes):
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        if source := self.headers.get("x-amz-copy-source"):
            self.server.files[name] = self.server.files[unquote(source).split("/", 1)[1]]
            self._say("CopyObjectResult", f"<ETag>{tag}</ETag>")
        elif "uploadId" in options:
            self.server.uploads[options["uploadId"]][int(options["partNumber"])] = body
            self._answer(200, ETag=tag)
        else:
            self.server.files[name] = body
            self._answer(200, ETag=tag)

    def _POST(self, name: str, options: dict[str, str], body: bytes):
        if "uploads" in options:
            number = str(len(self.server.uploads))
            self.server.uploads[number] = {}
            self._say("InitiateMultipartUploadResult", f"<UploadId>{number}</UploadId>")
        else:
            pieces = self.server.uploads[options["uploadId"]]
            self.server.files[name] = b"".join(piece for _, piece in sorted(pieces.items()))
            self._say("CompleteMultipartUploadResult")

    def _DELETE(self, name: str, options: dict[str, str], body: bytes):
        self.server.files.pop(name, None)
        self._answer(204)
