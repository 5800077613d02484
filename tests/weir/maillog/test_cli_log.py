"""`weir log parse`: every line is told, as what it says or as not understood."""

import gzip
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weir import cli, settings_file
from weir.cli import log
from weir.maillog.lines import Parser

SAMPLES = Path(__file__).parent / "samples"
MX1 = SAMPLES / "mx1.maillog"
UNKNOWN = b"Nov 24 15:32:45 mx1 postfix/smtpd[7]: a line \x1b[2J of the \xff future\nno head at all\n"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(settings_file.ENVIRONMENT, raising=False)
    monkeypatch.setattr(settings_file, "DEFAULT", tmp_path / "none.toml")


def run(*arguments: str, stdin: bytes = b"", code: int = 0) -> str:
    ran = CliRunner().invoke(cli.app, ["log", "parse", *arguments], input=stdin)
    if ran.exception and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == code, ran.stderr
    return ran.stdout if code == 0 else ran.stderr


def test_one_object_a_line() -> None:
    objects = [json.loads(line) for line in run(str(MX1)).splitlines()]
    assert len(objects) == len(MX1.read_bytes().splitlines())
    delivery = next(one for one in objects if one["message"]["type"] == "delivery")
    assert (delivery["host"], delivery["service"], delivery["daemon"]) == ("mx1", "postfix-mx1", "smtp")
    assert (delivery["message"]["recipient"], delivery["message"]["status"]) == ("x@dest.test", "sent")
    assert "bounce" not in delivery
    kinds = {one["bounce"]["kind"] for one in objects if one.get("bounce")}
    assert kinds == {"other", "unknown_recipient"}


def test_standard_input_and_what_is_not_understood() -> None:
    first, second = (json.loads(line) for line in run("-", stdin=UNKNOWN).splitlines())
    assert (first["message"], first["daemon"]) == (None, "smtpd")
    assert first["text"] == "a line \x1b[2J of the \\xff future"
    assert second == {"message": None, "text": "no head at all"}


def test_only_the_unknown_lines(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(MX1.read_bytes() + UNKNOWN)
    told = run(str(path), "--unknown").splitlines()
    assert told == ["Nov 24 15:32:45 mx1 postfix/smtpd[7]: a line \\x1b[2J of the \\xff future", "no head at all"]


def test_a_table_by_daemon_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(MX1.read_bytes() + UNKNOWN)
    rows = [line.split() for line in run(str(path), "--stats").splitlines()]
    text = MX1.read_text()
    assert ["qmgr", "removed", str(text.count(": removed\n"))] in rows
    assert ["smtpd", "connected", str(text.count("]: connect from "))] in rows
    assert ["smtpd", "not", "understood", "1", "a", "line", "\\x1b[2J", "of", "the", "\\xff", "future"] in rows
    assert ["no", "head", "not", "understood", "1", "no", "head", "at", "all"] in rows


def test_a_year_is_inferred_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"Dec 31 23:00:00 mx1 postfix/qmgr[7]: 3F1A2B4C5D: removed\n")
    new_year = time.mktime((2021, 1, 1, 0, 5, 0, 0, 0, -1))
    os.utime(path, (new_year, new_year))
    assert time.localtime(json.loads(run(str(path)))["time"]).tm_year == 2020


def test_a_compressed_log(tmp_path: Path) -> None:
    path = tmp_path / "mail.log.1.gz"
    path.write_bytes(gzip.compress(MX1.read_bytes()))
    assert len(run(str(path)).splitlines()) == len(MX1.read_bytes().splitlines())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nowhere/mail.log"], "No such file"),
        (["/"], "Is a directory"),
        ([str(MX1), "--stats", "--unknown"], "expected --unknown or --stats"),
    ],
)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    assert told in run(*arguments, code=2)


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mail.log.1.gz"
    path.write_bytes(gzip.compress(MX1.read_bytes())[:100])
    assert "mail.log.1.gz" in run(str(path), code=2)


@pytest.mark.parametrize("place", [2, 10, 500, -6])
def test_whatever_is_wrong_in_a_compressed_log_is_told_in_a_line(tmp_path: Path, place: int) -> None:
    path = tmp_path / "mail.log.1.gz"
    damaged = bytearray(gzip.compress(MX1.read_bytes()))
    damaged[place:] = bytes(b ^ 0xFF for b in damaged[place:])
    path.write_bytes(damaged)
    assert run(str(path), "--stats", code=2).startswith(f"weir: {path}: ")


def test_who_reads_no_further_is_no_error_of_the_file() -> None:
    command = [sys.executable, "-c", "from weir.cli import main; main()", "log", "parse", str(MX1)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert ran.stderr.read() == b""


def test_what_has_no_lines_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_LINE", 10)
    assert run("-", "--unknown", stdin=b"\0" * 15).splitlines() == ["\\x00" * 10, "\\x00" * 5]


def test_lines_come_as_they_are_read() -> None:
    """A log that is still written to can be piped through."""
    stream = io.BytesIO(b"no head\nno head\n")
    parsed = log._parsed(stream, Parser())
    assert next(parsed).raw == "no head"
    assert stream.tell() == len(b"no head\n")
