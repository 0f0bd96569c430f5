"""A proxy between a service and its S3 server that a test lets answer with errors, or late."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

Answer = tuple[int, str]
"""The status and the S3 error code of an answer that the proxy gives itself."""


@dataclass
class S3Proxy:
    """Forwards requests to `target`, but for those that `rule` answers."""

    target: str
    rule: Callable[[str, int], Answer | None] = lambda method, number: None
    """Gets the method, and the number of the request. None: forward it."""
    seconds: float = 0.0
    """How long every answer takes."""
    url: str = ""
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> int:
        with self._lock:
            self.requests += 1
            return self.requests


@contextmanager
def proxy_to_s3(target: str) -> Iterator[S3Proxy]:
    """Yield a proxy on a free port. It forwards the header Host, which is signed."""
    proxy = S3Proxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def _forward(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            time.sleep(proxy.seconds)
            refusal = proxy.rule(self.command, proxy.count())
            if refusal is not None:
                status, code = refusal
                self._answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            try:
                answer = client.request(self.command, target + self.path, headers=headers, content=body)
            except httpx2.TransportError:
                self._answer(502, {}, b"")
                return
            kept = ("content-type", "etag", "last-modified", "content-range", "x-amz-version-id")
            found = {name: answer.headers[name] for name in kept if name in answer.headers}
            size = answer.headers.get("content-length") if self.command == "HEAD" else None
            self._answer(answer.status_code, found, answer.content, size)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815

        def _answer(
            self, status: int, headers: dict[str, str], content: bytes, size: str | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", size or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with httpx2.Client(timeout=30) as client:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield proxy
        server.shutdown()
        server.server_close()
