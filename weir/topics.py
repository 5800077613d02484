"""The topics: names, partitions, settings, and who writes what (docs/DESIGN.md has the table with the reasons).

Invariants: a subject's tallies, windows and decisions lie in partitions of one number, so their count never changes.
"""

from dataclasses import dataclass, field

from weir.subjects import PARTITIONS

EVENTS = "weir.events"
TALLIES = "weir.tallies"
WINDOWS = "weir.windows"
DECISIONS = "weir.decisions"
OPERATORS = "weir.operators"
ECHO = "weir.echo"
STATUS = "weir.status"
DEAD = "weir.dead"

_SECOND = 1000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int
    about: str
    config: dict[str, str] = field(default_factory=dict)


def _compacted(segment_ms: int) -> dict[str, str]:
    """The active segment is never compacted: small ones keep what a restart must read small."""
    return {
        "cleanup.policy": "compact",
        "segment.ms": str(segment_ms),
        "segment.bytes": str(64 * _MIB),
        "min.cleanable.dirty.ratio": "0.1",
        "max.compaction.lag.ms": str(max(segment_ms, 15 * _MINUTE)),
    }


ALL = (
    Topic(EVENTS, PARTITIONS, "facts, whole; key: host", {"retention.ms": str(3 * _DAY)}),
    Topic(TALLIES, PARTITIONS, "what to count for whom", {"retention.ms": str(26 * _HOUR)}),
    Topic(WINDOWS, PARTITIONS, "changelog of the windows", _compacted(10 * _MINUTE)),
    Topic(
        DECISIONS,
        PARTITIONS,
        "what detectors decided; key: cause and subject",
        {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(35 * _DAY),
            "min.compaction.lag.ms": str(3 * _DAY),
        },
    ),
    Topic(
        OPERATORS,
        1,
        "operators' words; key: group and subject",
        {**_compacted(_HOUR), "message.timestamp.type": "LogAppendTime"},
    ),
    Topic(
        ECHO,
        1,
        "how far each partition of the tallies is counted",
        {"retention.ms": str(10 * _MINUTE), "segment.ms": str(5 * _MINUTE), "message.timestamp.type": "LogAppendTime"},
    ),
    Topic(
        STATUS,
        1,
        "the newest state of each agent and worker",
        {**_compacted(10 * _MINUTE), "cleanup.policy": "compact,delete", "retention.ms": str(31 * _DAY)},
    ),
    Topic(DEAD, 1, "what could not be understood, with its error and origin", {"retention.ms": str(14 * _DAY)}),
)
