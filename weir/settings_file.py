"""The settings' file: TOML into `weir.settings`, with errors that a person can act on, and its reference.

Invariants: a file that loads is right in every key, type, form and range that can be known without the network; all
that is wrong is told at once, each with file, line and key; a table that is given in part keeps its other defaults.
"""

import ast
import difflib
import inspect
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from weir import settings as structs
from weir.settings import Settings
from weir.settings_checks import CHECKS, SECRETS, Check, together

ENVIRONMENT = "WEIR_CONFIG"
DEFAULT = Path("/etc/weir/weir.toml")

Document = dict[str, Any]
Keys = tuple[str, ...]


class SettingsError(ValueError):
    """What is wrong with the settings, one line for each error: `weir.toml: line 12: KEY: …`."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


class _Wrong(NamedTuple):
    keys: Keys
    """What is wrong stands here."""
    text: str


def chosen(path: Path | None) -> Path | None:
    """The file to read: `path`, else the environment's, else the default one if there is one."""
    if path is not None:
        return path
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    return DEFAULT if DEFAULT.exists() else None


def load(path: Path | None = None) -> Settings:
    """The settings in the chosen file; defaults if there is none. Raises SettingsError."""
    found = chosen(path)
    if found is None:
        return Settings()
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected text in UTF-8"
        raise SettingsError([f"{found}: {reason}"]) from None
    return parse(text, str(found))


def parse(text: str, name: str) -> Settings:
    """The settings in a file's text; `name` is told in errors. Raises SettingsError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([_syntax(name, text, str(error))]) from None
    wrong = list(_wrong(Settings, document, ()))
    if not wrong:
        loaded: Settings = _convert(_merged(_builtins(Settings()), document), Settings)
        wrong = [_Wrong(keys, told) for keys, told in together(loaded)]
    if wrong:
        lines = _lines(text)
        located = sorted((_line(lines, keys), told) for keys, told in wrong)
        raise SettingsError([f"{name}: line {line}: {told}" for line, told in located])
    return loaded


def _syntax(name: str, text: str, error: str) -> str:
    """tomllib's own words, with the line where ours have it."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", error, re.DOTALL)
    if found is None:
        return f"{name}: {error}"
    return f"{name}: line {found[2] or len(text.splitlines())}: {found[1]}"


def _line(lines: dict[Keys, int], keys: Keys) -> int:
    """Where a key stands; for one that is not in the file, the table that it would stand in."""
    return next((lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in lines), 1)


def _lines(text: str) -> dict[Keys, int]:
    """Where each key first stands: the first line after the longest beginning of the file that is without it."""
    lines: dict[Keys, int] = {}
    complete = 0
    rows = text.splitlines(keepends=True)
    for number in range(1, len(rows) + 1):
        try:
            document = tomllib.loads("".join(rows[:number]))
        except tomllib.TOMLDecodeError:
            continue  # in the midst of a value of several lines
        for keys in _paths(document, ()):
            lines.setdefault(keys, complete + 1)
        complete = number
    return lines


def _paths(document: Document, above: Keys) -> Iterator[Keys]:
    for key, value in document.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def dotted(keys: Keys) -> str:
    """A key as TOML writes it: `detectors.burst.own."news@example.org"`."""
    return ".".join(key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key) for key in keys)


def _wrong(struct: type[msgspec.Struct], document: Document, above: Keys) -> Iterator[_Wrong]:
    """Unknown keys, wrong types, and values of the right type in a wrong form or range."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for name, value in document.items():
        keys = (*above, name)
        if name not in fields:
            yield _Wrong(keys, _unknown(keys, list(fields)))
        elif _is_plain(fields[name]):
            if expected := _expected(fields[name], CHECKS[struct][name], value):
                yield _Wrong(keys, f"{dotted(keys)}: expected {expected}, got {_shown(value)}")
        else:
            yield from _wrong_table(fields[name], value, keys)


def _wrong_table(kind: Any, value: object, keys: Keys) -> Iterator[_Wrong]:
    """`kind` is a struct, or a dict of structs whose keys are the user's own."""
    if not isinstance(value, dict):
        yield _Wrong(keys, f"{dotted(keys)}: expected a table, got {_shown(value)}")
    elif _is_struct(kind):
        yield from _wrong(kind, value, keys)
    else:
        for name, one in value.items():
            yield from _wrong_table(get_args(kind)[1], one, (*keys, name))


def _expected(kind: Any, check: Check, value: object) -> str:
    try:
        _convert(value, kind)
    except msgspec.ValidationError:
        return _words(kind)
    return check(value)


def _unknown(keys: Keys, siblings: list[str]) -> str:
    text = f"unknown key {dotted(keys)}"
    name = keys[-1]
    for word, variable in SECRETS.get(keys[0], SECRETS["kafka"]).items():
        if word in name:
            return f"{text}: a password does not belong in a file, set the environment variable {variable}"
    if near := difflib.get_close_matches(name, siblings, 1):
        return f"{text}: did you mean {dotted((*keys[:-1], near[0]))}?"
    everywhere = {known[-1]: known for known in _known(Settings, ())}
    if near := difflib.get_close_matches(name, everywhere, 1, 0.8):
        return f"{text}: did you mean {dotted(everywhere[near[0]])}?"
    return f"{text}: expected one of {', '.join(siblings)}"


def _known(struct: type[msgspec.Struct], above: Keys) -> Iterator[Keys]:
    for field in msgspec.structs.fields(struct):
        yield (*above, field.name)
        if _is_struct(field.type):
            yield from _known(field.type, (*above, field.name))


def _is_plain(kind: Any) -> bool:
    return not _is_struct(kind) and get_origin(kind) is not dict


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _convert(value: object, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=_path)


def _path(kind: type, value: object) -> Path:
    if not isinstance(value, str):
        raise TypeError
    return Path(value)


def _builtins(value: object) -> Document:
    found: Document = msgspec.to_builtins(value, enc_hook=str)
    return found


def _merged(under: Document, over: Document) -> Document:
    both = {key: _merged(under[key], over[key]) for key in under.keys() & over.keys() if isinstance(under[key], dict)}
    return under | over | both


def _words(kind: Any) -> str:
    """A type in TOML's own terms."""
    if get_origin(kind) is list:
        return f"an array of {_words(get_args(kind)[0]).split()[-1]}s"
    named = {bool: "a boolean", int: "an integer", float: "a float", str: "a string", Path: "a string"}
    return named[next(one for one in get_args(kind) or [kind] if one is not type(None))]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def reference() -> str:
    """All settings with their defaults and what they mean, as a file that loads."""
    return "\n".join(_table(Settings, Settings(), ())) + "\n"


def _table(struct: type[msgspec.Struct], defaults: msgspec.Struct, above: Keys) -> Iterator[str]:
    """Plain keys first: after a table's head they would be that table's."""
    texts = _docstrings()
    fields = msgspec.structs.fields(struct)
    for field in fields:
        if _is_plain(field.type):
            default = json.dumps(getattr(defaults, field.name), default=str, ensure_ascii=False)
            yield from _comment(texts[struct.__name__, field.name])
            yield f"{field.name} = {default}  # {_words(field.type)}"
    for field in fields:
        keys = (*above, field.name)
        text = texts[struct.__name__, field.name]
        if _is_struct(field.type):
            yield ""
            yield from _comment(text, texts[field.type.__name__, ""])
            yield f"[{dotted(keys)}]"
            yield from _table(field.type, getattr(defaults, field.name), keys)
        elif not _is_plain(field.type):
            inner = get_args(field.type)[1]
            yield ""
            yield from _comment(text, texts[inner.__name__, ""])
            yield from (f"# {one.name}: {_words(one.type)}" for one in msgspec.structs.fields(inner))


def _comment(*texts: str) -> Iterator[str]:
    text = " ".join(text for text in texts if text)
    return (f"# {line}" for line in textwrap.wrap(text, 100, break_long_words=False))


def _docstrings() -> dict[tuple[str, str], str]:
    """Struct and field → its docstring, joined into one line; the struct's own under the field ""."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(structs)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name, ""] = " ".join((ast.get_docstring(node) or "").split())
        for one, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                text = str(following.value.value) if is_text else ""  # type: ignore[union-attr]
                found[node.name, one.target.id] = " ".join(text.split())
    return found
