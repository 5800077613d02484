"""A receiver of webhooks, as Apprise's json:// posts them."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from fleet.process import free_port, wait_until

TOKEN = "t0p-s3cr3t"


class Post(NamedTuple):
    title: str
    message: str
    type: str


class Webhook:
    """Listens on a port of loopback while its `with` block lasts, or between start() and stop()."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.status = 200
        """The answer."""
        self.before_answer: Callable[[], None] | None = None
        """Called once, with the next post."""
        self._port = free_port()
        self.url = f"json://127.0.0.1:{self._port}/{TOKEN}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.webhook = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def naming(self, text: str) -> list[Post]:
        """The posts that have this in their title or text."""
        return [post for post in self.posts if text in post.title or text in post.message]

    def wait_for(self, text: str, timeout: float = 20.0) -> Post:
        return wait_until(lambda: self.naming(text), timeout, f"an alert with {text!r}")[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    webhook: Webhook


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hook = self.server.webhook
        hook.posts.append(Post(body["title"], body["message"], body["type"]))
        before, hook.before_answer = hook.before_answer, None
        if before is not None:
            before()
        self.send_response(hook.status)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name there)
        """Nothing."""
