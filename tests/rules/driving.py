"""Rules driven in process: a clock that is moved, names that are answered from a dictionary, requests one by one.

host = Host(tmp_path, "id=A; rbl=bl.test; action=REJECT", zone={"10.2.0.192.bl.test A": ["127.0.0.2"]})
host.ask(client_address="192.0.2.10")          # the reply
host.now += 60
"""

import calendar
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.rules import conformance
from tests.rules.conformance import LOAD_ERROR, NO_ANSWER, Case
from weir.rules import scores
from weir.rules.counters import Counters
from weir.rules.evaluation import Program
from weir.rules.groups import Groups
from weir.rules.needs import Ask, Evaluation, Lookup, Mail, Need, Outcome, Question, Wait
from weir.rules.rule import RulesError
from weir.rules.ruleset import Source, load
from weir.rules.tables import Tables

START = 1_800_000_000.0
REQUEST = {
    "request": "smtpd_access_policy",
    "protocol_state": "RCPT",
    "protocol_name": "ESMTP",
    "client_address": "192.0.2.10",
    "client_name": "host10.example.net",
    "reverse_client_name": "host10.example.net",
    "helo_name": "laptop.example.net",
    "sender": "alice@example.org",
    "recipient": "bob@example.com",
    "recipient_count": "0",
    "queue_id": "",
    "size": "1500",
    "sasl_username": "alice@example.org",
}


def answers(questions: Sequence[Question], zone: Mapping[str, list[str]]) -> dict[Question, list[str]]:
    """What a resolver says: `zone` has the values of `NAME TYPE`, and what it has not is not there."""
    return {question: zone.get(f"{question.name.lower()} {question.type}", []) for question in questions}


class Host:
    """A mail host with its rules, counters, groups, tables and clock."""

    def __init__(
        self,
        folder: Path,
        rules: str,
        *,
        more: Mapping[float, str] | None = None,
        zone: Mapping[str, list[str]] | None = None,
    ) -> None:
        """`more` are score limits. Without a zone DNS is off. Raises RulesError."""
        self.rules = folder / "rules.cf"
        self.rules.write_text(rules)
        self.now = START
        self.counters = Counters()
        self.needs: list[Need] = []
        """All that evaluations needed, in order."""
        self.servers: dict[str, str] = {}
        """What other policy servers answer, by `ADDRESS:PORT`; one that is not here cannot be reached."""
        self._more = more or {}
        self._zone = zone
        self._groups = Groups()
        self.reload()

    def reload(self) -> None:
        ruleset = load([Source(self.rules)])
        self.program = Program(ruleset, self._groups, Tables(), scores=self._more, dns=self._zone is not None)

    def ask(self, **attributes: str) -> str:
        """The reply to a request; attributes beside those of REQUEST, or in their place."""
        return self.outcome({**REQUEST, **attributes}).action

    def outcome(self, attributes: Mapping[str, str]) -> Outcome:
        return self.drive(self.program.evaluate(attributes, self.now, self.counters))

    def drive(self, evaluation: Evaluation) -> Outcome:
        try:
            need = next(evaluation)
            while True:
                self.needs.append(need)
                need = evaluation.send(self._meet(need))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

    def _meet(self, need: Need) -> Any:
        match need:
            case Lookup():
                assert self._zone is not None, "DNS is off"
                return answers(need.questions, self._zone)
            case Wait():
                self.now += need.seconds
                return None
            case Ask():
                return self.servers.get(f"{need.address}:{need.port}")
            case Mail():
                return None


def run(case: Case, folder: Path) -> list[str]:
    """The replies to a case's requests, as `tests.rules.conformance.run` has them from an agent."""
    for name, text in case["tables"].items():
        (folder / name).write_text(text.replace("@DIR@", str(folder)))
    words = conformance.options(case["options"])
    more = dict(scores.parse(value) for word, value in itertools.pairwise(words) if word == "--score")
    zone = case["dns"]["zone"] if "dns" in case else None
    try:
        host = Host(folder, case["rules"].replace("@DIR@", str(folder)), more=more, zone=zone)
    except RulesError:
        return [LOAD_ERROR]
    host.now = float(calendar.timegm(time.strptime(case["clock"], "%Y-%m-%d %H:%M:%S"))) if "clock" in case else START
    replies = [_reply(host, request, folder) for request in case["requests"]]
    return ["action=DUNNO" if "--dry-run" in words else reply for reply in replies]


def _reply(host: Host, request: dict[str, Any], folder: Path) -> str:
    host.now += request.get("delay_s", 0)
    if "signal" in request:
        host.reload()
    for name, text in request.get("write", {}).items():
        path = folder / name
        later = path.stat().st_mtime + 2 if path.exists() else time.time()
        path.write_text(text.replace("@DIR@", str(folder)))
        os.utime(path, (later, later))
    if request["attrs"].get("request") != "smtpd_access_policy":
        return NO_ANSWER
    return f"action={host.outcome(request['attrs']).action}"
