"""What is known over a restart: the file is whole or not taken."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.maillog import kept
from agents.maillog.kept import Known
from agents.maillog.outcomes import Delivered, Message, Recent, Waiting
from agents.maillog.position import Position
from agents.maillog.tries import Try
from weir.maillog.bounces import Bounce, Kind
from weir.maillog.messages import LoginFailed

MESSAGES = [Message(f"4jYmyW0Nsyz{number}", number, "alice@weir.test") for number in range(2500)]
BOUNCED = Delivered(MESSAGES[0], 1.0, "bounced", "x@dest.test", "none", "5.1.1", Bounce(Kind.LISTED, "x"), "no")
RECENT = Recent(
    {7: ("alice", "192.0.2.1")}, {8: "hold"}, {"A": Waiting(MESSAGES[0], 5.0, [BOUNCED])}, {}, {"B": "A"}, {"C": 1.5}
)
TRIES = [Try(1.0, LoginFailed("auth", "alice", "192.0.2.1", "PLAIN", "credentials"))]
KNOWN = Known(Position(lines={"/var/log/mail.log": 7}, number=9), MESSAGES, RECENT, TRIES, {"4703": 1.5})


def written(path: Path) -> Path:
    kept.write(path, KNOWN)
    kept.publish(path)
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert kept.read(written(tmp_path / "messages")) == KNOWN


def test_until_it_is_published_the_former_one_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "messages")
    kept.write(path, KNOWN._replace(messages=[]))
    assert kept.read(path) == KNOWN
    kept.publish(path)
    assert kept.read(path) == KNOWN._replace(messages=[])


def test_none_was_written(tmp_path: Path) -> None:
    assert kept.read(tmp_path / "messages") is None


def test_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "messages")
    monkeypatch.setattr(kept, "VERSION", 2)
    with pytest.raises(ValueError, match="expected version 2"):
        kept.read(path)


@given(st.data())
def test_a_damaged_file_is_not_taken(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.mktemp("kept") / "messages")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 2)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 2))] ^= 1
    path.write_bytes(content)
    with pytest.raises((ValueError, msgspec.DecodeError)):
        kept.read(path)
