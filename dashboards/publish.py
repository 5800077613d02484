"""Pushes folder, data source and dashboard to Grafana, over its HTTP API.

Invariants: what is there already as we want it is not written, so that a second push changes nothing and makes no new
version; what we do not know (fields that Grafana or a person added to the data source) stays; a data source keeps its
password unless one is given.

The API: https://grafana.com/docs/grafana/latest/developers/http_api/ (folder, data_source, dashboard).
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace
from requests.exceptions import JSONDecodeError, RequestException

from dashboards import fleet, query, source
from weir.settings import Settings

PATIENCE = 10.0
"""Seconds that Grafana has for an answer."""

Document = dict[str, Any]


class NotDoneError(Exception):
    """Grafana answered, but did not do it."""


class RefusedError(NotDoneError):
    """Grafana does not know the token, or it may not do that."""


class UnreachableError(NotDoneError):
    """Nobody answered."""


class Pushed(NamedTuple):
    what: str
    """Kind and title."""
    change: Literal["created", "updated", "unchanged"]


def push(settings: Settings, token: str, password: str = "") -> Iterator[Pushed]:
    """Bring everything to Grafana, one thing after another.

    `token` is a service account's; `password` is that of ClickHouse's user, "" for none or to keep what Grafana has.
    Raises NotDoneError and those derived from it.
    """
    url = urlsplit(settings.grafana.url)
    path = url.path.strip("/")
    grafana = GrafanaFace(
        token,
        host=url.netloc,
        url_path_prefix=f"{path}/" if path else "",
        protocol=url.scheme,
        timeout=PATIENCE,
    )
    with closing(grafana.api.s), _told(settings.grafana.url):
        yield _push_folder(grafana)
        yield _push_data_source(grafana, source.data_source(settings), password)
        yield _push_dashboard(grafana, fleet.dashboard())


def _push_folder(grafana: GrafanaFace) -> Pushed:
    what = f"folder {fleet.FOLDER}"
    if _found(lambda: grafana.folder.get_folder(fleet.FOLDER_UID)):
        return Pushed(what, "unchanged")
    _document(grafana.folder.create_folder(fleet.FOLDER, fleet.FOLDER_UID))
    return Pushed(what, "created")


def _push_data_source(grafana: GrafanaFace, wanted: Document, password: str) -> Pushed:
    what = f"data source {source.NAME}"
    secret: Document = {"secureJsonData": {"password": password}} if password else {}
    path = f"/datasources/uid/{query.UID}"
    found = _found(lambda: grafana.api.GET(path))
    if not found:
        _document(grafana.datasource.create_datasource(wanted | secret))
        return Pushed(what, "created")
    # Grafana does not show the password that it has, so one that is given is always written.
    if _holds(found, wanted) and not password:
        return Pushed(what, "unchanged")
    both = found | wanted | {"jsonData": (found.get("jsonData") or {}) | wanted["jsonData"]}
    _document(grafana.api.PUT(path, json=both | secret))
    return Pushed(what, "updated")


def _push_dashboard(grafana: GrafanaFace, wanted: Document) -> Pushed:
    what = f"dashboard {fleet.TITLE}"
    found = _found(lambda: grafana.dashboard.get_dashboard(fleet.UID))
    if found and found["meta"].get("folderUid") == fleet.FOLDER_UID and _holds(found["dashboard"], wanted):
        return Pushed(what, "unchanged")
    save = {"dashboard": wanted, "folderUid": fleet.FOLDER_UID, "message": "weir dashboards push", "overwrite": True}
    _document(grafana.dashboard.update_dashboard(save))
    return Pushed(what, "updated" if found else "created")


def _found(ask: Any) -> Document | None:
    """What Grafana has, None if it has no such thing."""
    try:
        return _document(ask())
    except GrafanaClientError as error:
        if error.status_code == 404:
            return None
        raise


def _document(answer: object) -> Document:
    """An answer of Grafana's; one that is redirected (POST becomes GET) or of somebody else is a list, or nothing."""
    if not isinstance(answer, dict):
        raise TypeError
    return answer


def _holds(found: Any, wanted: Any) -> bool:
    """Whether all that we want stands there; Grafana adds fields of its own to what it was given."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and _holds(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(map(_holds, found, wanted))
    return bool(found == wanted)


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except GrafanaException as error:
        text = f"Grafana at {url} answers: {error.message}"
        raise (RefusedError if error.status_code in (401, 403) else NotDoneError)(text) from None
    except JSONDecodeError:
        raise NotDoneError(f"{url}: expected Grafana, got an answer that is no JSON") from None
    except RequestException as error:
        raise UnreachableError(f"Grafana at {url} cannot be reached: {_reason(error)}") from None
    except (TypeError, KeyError, AttributeError):  # JSON, but not Grafana's; grafana_api itself stumbles over some
        raise NotDoneError(f"{url}: expected Grafana, got an answer of another form") from None


def _reason(error: BaseException) -> str:
    """The innermost reason: what stands around it repeats the address."""
    inner = error.args[0] if error.args else None
    inner = getattr(inner, "reason", inner)
    return " ".join(str(inner if isinstance(inner, BaseException) else error).split())
