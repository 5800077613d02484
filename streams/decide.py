"""From windows that hold too much to decisions: when a block begins, when it moves, what is published.

    exceeded bucket lies            then
    at or after the end of block    a new block begins there; the one before it is history (`floor` is its end)
    within the block                nothing, but a block that was a shadow is carried out when its reason is over
    before it, and after `floor`    mail came late: the block moves back there, if it would still last
    before `floor`                  nothing: it belongs to a block that is history

Invariants: a block begins with the earliest exceeded bucket that no block covers, so the same facts give the same
decision, with the same id, in any order; one that is over is never published; an operator's word outranks us.
"""

from collections.abc import Callable

from streams.brake import Brake
from streams.detectors import BURST, Burst, Crossing, crossing
from streams.windows import BUCKET_SECONDS, Sums, Window
from weir import decisions
from weir.decisions import Decision, Evidence
from weir.operators import Operators
from weir.settings import Settings


class Judge:
    """Decides about subjects, by the detector, the operators' words and the brake."""

    def __init__(
        self, settings: Settings, operators: Operators, brake: Brake, active_accounts: Callable[[], float]
    ) -> None:
        self._settings = settings.detectors.burst
        self.detector = Burst(settings)
        self.default_realm = settings.default_realm
        self.operators = operators
        self.brake = brake
        self._active_accounts = active_accounts

    def judge(self, subject: str, window: Window, index: int, time: float, now: float) -> Decision | None:
        """Judge the windows that hold the bucket at `index`, in which mail of `time` was just counted.

        Returns what is to be published, if anything; the block is noted in the window.
        """
        limits = window.limits
        if limits is None or self.operators.allow(subject, now):
            return None
        before = window.since, window.until
        cause: tuple[Sums, Crossing] | None = None
        exceeded: tuple[Sums, Crossing] | None = None
        for sums in window.sums_from(index):
            crossed = crossing(sums, limits)
            if crossed is not None:
                exceeded = sums, crossed
                if self._begins(window, sums.bucket * BUCKET_SECONDS, now):
                    cause = exceeded
        if cause is not None:
            window.change = window.change + 1 if window.since < before[0] else 0
        elif exceeded is not None and window.why_shadow and not self._why_shadow(now):
            cause = exceeded
            window.change += 1
        if cause is None or window.until <= now:
            return None
        window.why_shadow = self._why_shadow(now)
        decision = self._decision(subject, window, *cause, time, now)
        self.brake.take(decision, now)
        return decision

    def _begins(self, window: Window, start: int, now: float) -> bool:
        """Begin or move the subject's block, as the table says; returns whether that happened."""
        end = start + self._settings.block_seconds
        if start >= window.until:
            window.floor = window.until
        elif not (window.floor <= start < window.since and end > now):
            return False
        window.since, window.until = start, end
        window.why_shadow = ""
        return True

    def _decision(
        self, subject: str, window: Window, sums: Sums, crossed: Crossing, time: float, now: float
    ) -> Decision:
        identity = decisions.decision_id(subject, BURST, window.since)
        first = sums.bucket + 1 - crossed.seconds // BUCKET_SECONDS
        return Decision(
            version=decisions.VERSION,
            id=identity,
            subject=subject,
            cause=BURST,
            action=decisions.action(self._settings.text, BURST, identity),
            evidence=Evidence(
                counter=crossed.counter,
                count=crossed.count,
                threshold=crossed.threshold,
                seconds=crossed.seconds,
                time=time,
                hosts=window.seen(window.hosts, first),
                beside=window.seen(window.beside, first),
            ),
            since=float(window.since),
            until=float(window.until),
            after=window.after,
            change=window.change,
            decided=now,
            shadow=bool(window.why_shadow),
            why_shadow=window.why_shadow,
        )

    def _why_shadow(self, now: float) -> str:
        if self._settings.shadow:
            return "detector"
        if self.operators.paused:
            return "pause"
        return "brake" if self.brake.is_on(now, self._active_accounts()) else ""
