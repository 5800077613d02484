"""A small server that keeps folders, data sources and dashboards as Grafana's HTTP API describes it.

It is not Grafana: Grafana comes in no package that our set-up can install. What it does is taken from the documentation
(https://grafana.com/docs/grafana/latest/developers/http_api/: authentication, folder, data_source, dashboard):

- without the token 401, with that of a viewer 403 for what writes;
- a folder or a data source that is there already is not made again (409);
- secrets go in and never come out, `secureJsonFields` tells which there are; an update without them keeps them, one
  with another version than the newest is refused (409);
- a dashboard has an id and a version of Grafana's; each save makes a new version; without `overwrite` it needs
  the newest version (412).
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Document = dict[str, Any]

TOKEN = "editor's token"
VIEWER = "viewer's token"


class Grafana(ThreadingHTTPServer):
    """Listens on a free port of loopback while its `with` block lasts."""

    daemon_threads = True

    def __init__(self, path: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.path = path
        self.url = f"http://127.0.0.1:{self.server_address[1]}{path}"
        self.folders: dict[str, Document] = {}
        self.sources: dict[str, Document] = {}
        self.secrets: dict[str, Document] = {}
        self.dashboards: dict[str, Document] = {}
        """Uid → `dashboard` and `meta`."""
        self.writes: list[str] = []
        """Method and path of all that changed something."""
        self.answer: tuple[int, bytes] | None = None
        """What everybody gets instead, if set."""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle(self, method: str, path: list[str], body: Document) -> tuple[int, Any]:
        kinds = {"folders": self._folder, "datasources": self._source, "dashboards": self._dashboard}
        kind = kinds.get(path[0])
        return kind(method, path[1:], body) if kind else (404, {"message": "Not found"})

    def _folder(self, method: str, path: list[str], body: Document) -> tuple[int, Any]:
        if method == "GET":
            return _one(self.folders.get(path[0])) if path else (200, list(self.folders.values()))
        if body["uid"] in self.folders or body["title"] in {one["title"] for one in self.folders.values()}:
            return 409, {"message": "a folder with the same name already exists"}
        self.folders[body["uid"]] = {"id": 1, "version": 1, **body}
        return 200, self.folders[body["uid"]]

    def _source(self, method: str, path: list[str], body: Document) -> tuple[int, Any]:
        if method == "GET":
            return _one(self.sources.get(path[1]))
        if method == "POST":
            if body["name"] in {one["name"] for one in self.sources.values()}:
                return 409, {"message": "data source with the same name already exists"}
            return self._keep_source({"id": len(self.sources) + 1, "version": 1}, body)
        found = self.sources[path[1]]
        if body.get("version", found["version"]) != found["version"]:
            return 409, {"message": "Datasource has already been updated by someone else"}
        return self._keep_source({"id": found["id"], "version": found["version"] + 1}, body)

    def _dashboard(self, method: str, path: list[str], body: Document) -> tuple[int, Any]:
        return _one(self.dashboards.get(path[1])) if method == "GET" else self._save(body)

    def _keep_source(self, ours: Document, body: Document) -> tuple[int, Document]:
        secrets = self.secrets.setdefault(body["uid"], {})
        secrets.update(body.pop("secureJsonData", {}))
        defaults = {"orgId": 1, "isDefault": False, "basicAuth": False, "readOnly": False}
        kept = defaults | body | ours | {"secureJsonFields": dict.fromkeys(secrets, True)}
        self.sources[body["uid"]] = kept
        return 200, {"datasource": kept, "message": "Datasource added"}

    def _save(self, body: Document) -> tuple[int, Document]:
        wanted = body["dashboard"]
        found = self.dashboards.get(wanted["uid"])
        version = found["dashboard"]["version"] if found else 0
        if found and not body.get("overwrite") and wanted.get("version") != version:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        if body.get("folderUid", "") not in {"", *self.folders}:
            return 400, {"message": "folder not found"}
        self.dashboards[wanted["uid"]] = {
            "dashboard": {**wanted, "id": 1, "version": version + 1},
            "meta": {"folderUid": body.get("folderUid", ""), "provisioned": False},
        }
        return 200, {"status": "success", "uid": wanted["uid"], "version": version + 1}


class _Handler(BaseHTTPRequestHandler):
    server: Grafana
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.server.answer is not None:
            status, answer = self.server.answer
        else:
            status, found = self._found(body)
            answer = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _found(self, body: Document) -> tuple[int, Any]:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (TOKEN, VIEWER):
            return 401, {"message": "Invalid API key"}
        if self.command != "GET" and token == VIEWER:
            return 403, {"message": "You'll need additional permissions to perform this action"}
        prefix, api, rest = self.path.partition("/api/")
        if prefix != self.server.path or not api:
            return 404, {"message": "Not found"}
        status, found = self.server.handle(self.command, rest.split("/"), body)
        if self.command != "GET" and status == 200:
            self.server.writes.append(f"{self.command} /{rest}")
        return status, found


def _one(found: Document | None) -> tuple[int, Document]:
    return (200, found) if found is not None else (404, {"message": "Not found"})
