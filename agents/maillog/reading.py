"""Lines of the mail log → events, and what has to be known for it of lines before. No threads and no files here.

    parser ─▶ tracker ─▶ teller ─▶ events
          └──▶ tries ──▶

Invariants: the same lines in the same order, from the same knowledge on, give the same events; whatever stands in a
line, the next one is read.
"""

from collections.abc import Iterable, Iterator

import structlog

from agents.maillog import outcomes
from agents.maillog.asked import AskedMessages
from agents.maillog.by_subject import BySubject
from agents.maillog.kept import Known
from agents.maillog.position import Position
from agents.maillog.telling import Teller, Told
from agents.maillog.tracker import Tracker
from agents.maillog.tries import Tries
from weir import settings
from weir.maillog.lines import Parser
from weir.maillog.messages import Line, LoggedIn, LoginFailed
from weir.maillog.unknown import NO_HEAD, UnknownLines

MAX_SAMPLE = 200

log = structlog.get_logger(__name__)


class Reading:
    def __init__(self, options: settings.Log, default_realm: str, asked: AskedMessages) -> None:
        self.tracker = Tracker(options.filters, default_realm)
        self.teller = Teller(default_realm, options.ignore_uids, asked)
        self.unknown = UnknownLines()
        self.faults = 0
        """Lines that we failed at."""
        self.newest = 0.0
        """Time of the newest line, Unix seconds."""
        self._asked = asked
        self._tries = Tries()
        self._parsers: dict[str, Parser] = {}

    def use_realm(self, default_realm: str) -> None:
        """From now on; on any thread."""
        if default_realm != self.teller.default_realm:
            self.teller.default_realm = default_realm
            self.tracker.under_way.by_subject = BySubject(default_realm)

    def events(self, source: str, lines: Iterable[bytes]) -> list[Told]:
        """What the next lines of this log tell."""
        parse = self._parsers.setdefault(source, Parser()).parse
        told: list[Told] = []
        for raw in lines:
            try:
                line = parse(raw)
                if line is None or line.message is None:
                    self._count_unknown(line)
                if line is not None:
                    self.newest = line.time
                    for _ in range(line.times):
                        told += self._told(line)
            except Exception:  # whatever is in a line, the next one must come
                self.faults += 1
                if self.faults == 1:
                    log.exception("a line of the mail log could not be dealt with")
        return told

    def flush(self, now: float) -> list[Told]:
        """What has waited long enough for lines that did not come; `now` is Unix seconds by the log's clock."""
        found = [event for one in self.tracker.flush(now) if (event := self.teller.event(one)) is not None]
        return [*found, *self._tried(now)]

    def known(self, position: Position) -> Known:
        """What is known of the lines before that position, as it is now: to be written before the next line."""
        tracker = self.tracker
        return Known(position, tracker.under_way.records(), tracker.recent(), self._tries.records(), self._asked.passed)

    def restore(self, known: Known) -> None:
        """Take in what was known before a restart."""
        self.tracker.restore(known.messages, known.recent)
        self._tries.restore(known.tries)
        self._asked.passed.update(known.passed)

    def _told(self, line: Line) -> Iterator[Told]:
        yield from self._tried(line.time)
        for outcome in self.tracker.track(line):
            if isinstance(outcome, outcomes.LoggedIn):
                self._tries.succeeded(line.time, outcome.user, outcome.client)
            event = self.teller.event(outcome)
            if event is not None:
                yield event
        said = line.message
        if isinstance(said, LoginFailed):
            for failed in self._tries.take(line.time, said):
                yield self.teller.login_failed(line.time, failed)
        elif isinstance(said, LoggedIn):
            self._tries.succeeded(line.time, said.user, said.client_address)
            login = self.teller.logged_in(line.time, said)
            if login is not None:
                yield login

    def _tried(self, now: float) -> Iterator[Told]:
        return (self.teller.login_failed(one.time, one.failed) for one in self._tries.flush(now))

    def _count_unknown(self, line: Line | None) -> None:
        """The first line of a Postfix daemon is shown, without what other programs may write of passwords."""
        daemon, text = (line.daemon, line.text) if line is not None else (NO_HEAD, "")
        if self.unknown.add(daemon, text):
            is_plain = line is not None and line.service and "AUTH" not in text and text[:1] not in "<>"
            sample = text[:MAX_SAMPLE] if is_plain else ""
            log.info("lines of this program are not understood, see weir log parse", daemon=daemon, sample=sample)
