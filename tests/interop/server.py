"""A web server in the test's own process, with the habits of real ones: ranges, versions, cut connections."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves ``files`` by path.

    Attributes:
        files: contents by path; change them, and their ETag changes.
        cuts: after how many bytes of a body the next connections are cut, first to last.
        ranges: whether parts of a file are given.
        versions: whether files have an ETag.
        status: what it answers to everything, when it is not None.
        asked: the path and the range of every request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges = self.versions = True
        self.status: int | None = None
        self.asked: list[tuple[str, str | None]] = []
        self.address = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        content = self.files.get(handler.path)
        if content is None or self.status is not None:
            handler.send_error(self.status or 404)
            return
        tag, begin = f'"{hash(content)}"', 0
        if wanted and self.ranges and handler.headers.get("If-Range", tag) == tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if self.versions:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        body = content[begin:]
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@contextmanager
def serve() -> Iterator[Server]:
    """A running server."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.address = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
