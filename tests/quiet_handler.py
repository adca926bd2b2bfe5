"""What the stand-in servers have in common: they answer in one go, and write no log."""

from http.server import BaseHTTPRequestHandler


class QuietHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    empty = b""  # what stands for no content

    def log_message(self, *args):
        pass

    def _answer(self, status: int, body: bytes | None = None, **headers: str):
        body = self.empty if body is None else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
