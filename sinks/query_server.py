"""Queries of a history without a server, over HTTP, in the form of ClickHouse's own HTTP interface.

    curl '127.0.0.1:9643/?default_format=PrettyCompact' --data-binary 'SELECT count() FROM events FINAL'

Invariants: a query can only read tables; it is bounded in time. There is no login: it belongs on loopback.
"""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sinks.embedded import Embedded
from sinks.store import StoreError

MAX_QUERY = 1024 * 1024


class QueryServer(ThreadingHTTPServer):
    """Answers from its construction to `stop`. Raises OSError if it cannot listen."""

    daemon_threads = True

    def __init__(self, address: str, store: Embedded) -> None:
        self.store = store
        host, _, port = address.rpartition(":")
        super().__init__((host.strip("[]"), int(port)), _Handler)
        threading.Thread(target=self.serve_forever, name="queries", daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: QueryServer
    timeout = 60

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n")
        else:
            self._ask("")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_QUERY:
            self._answer(400, f"expected a query of at most {MAX_QUERY} bytes, with its Content-Length\n".encode())
            return
        self._ask(self.rfile.read(int(length)).decode(errors="replace"))

    def _ask(self, body: str) -> None:
        given = parse_qs(urlsplit(self.path).query)
        form = given.get("default_format", ["TabSeparated"])[-1]
        query = given.get("query", [""])[-1] + body
        if not query.strip() or not re.fullmatch("[A-Za-z0-9]+", form):
            self._answer(400, b"expected a query, as ?query= or as the body of a POST\n")
            return
        try:
            answer = self.server.store.read(query, form)
        except StoreError as error:
            self._answer(400, f"{error}\n".encode())
        else:
            self._answer(200, answer)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (http.server's name)
        """Queries hold names of accounts: they are not logged."""
