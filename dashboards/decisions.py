"""Panels about detectors' decisions and operators' words: who is blocked, since when, why, and how to undo it.

Invariants: of one decision's records the newest change counts; the order of judgement is the agents' (expired, shadow,
released, allowed); decisions are always the whole fleet's, since a block holds on every host.
"""

from dashboards.commands import release
from dashboards.panels import BAD, GOOD, INFORMATION, MIND, PAST, Panel, coloured, stat, table, time_series

NEWEST = """(
    SELECT *
    FROM decisions FINAL
    WHERE cause != 'limit' AND day >= toDate($__fromTime) - 32 AND since <= $__toTime
    ORDER BY change DESC
    LIMIT 1 BY id
)"""
"""Each decision of detectors once, of those that can be in force in the chosen time: a block lasts 30 days at most.
Those that say that a rule's limit is exhausted block nobody by themselves."""

WORDS = """(
    SELECT
        subject,
        maxIf(time, word = 'release') AS released,
        argMaxIf(word, time, word IN ('block', 'allow', 'end')) AS standing,
        argMaxIf(until, time, word IN ('block', 'allow', 'end')) AS standing_until,
        maxIf(time, word IN ('block', 'allow', 'end')) AS spoken
    FROM words FINAL
    WHERE time <= $__toTime
    GROUP BY subject
)"""
"""What operators said last about each subject."""

STATE = """multiIf(
    decisions.until <= $__toTime, 'expired',
    shadow, 'shadow',
    released > after, 'released',
    standing = 'allow' AND standing_until > $__toTime, 'allowed',
    'in force')"""
"""What has become of a decision at the end of the chosen time."""

WHY = "concat(toString(count), ' ', counter, ' in ', toString(seconds), ' s, threshold ', toString(threshold))"

OPERATORS_BLOCK = "standing = 'block' AND standing_until > $__toTime AND spoken > released"
"""An operator's block that is in force at the end of the chosen time."""


def in_force() -> Panel:
    return stat(
        "Blocks in force",
        "Accounts and addresses that are blocked at the end of the chosen time, by detectors and by operators. "
        "Fifty at once are more likely a mistake of ours than an attack: `weir pause` stops new ones.",
        f"""
        SELECT
            (SELECT count() FROM {NEWEST} AS decisions LEFT JOIN {WORDS} AS words USING (subject)
                WHERE {STATE} = 'in force')
            + (SELECT count() FROM {WORDS} WHERE {OPERATORS_BLOCK}) AS blocks
        """,  # noqa: S608 (our own text)
        "short",
        (1, MIND),
        (50, BAD),
    )


def shadow_count() -> Panel:
    return stat(
        "Shadow decisions",
        "What detectors would have blocked in the chosen time: the detector is set to shadow, an operator paused "
        "them, or the brake holds. The table below says which.",
        f"SELECT uniqExact(id) AS shadows FROM {NEWEST} WHERE shadow AND since >= $__fromTime",  # noqa: S608 (our own text)
        "short",
        (1, INFORMATION),
    )


def over_time() -> Panel:
    return time_series(
        "New decisions by cause",
        "Decisions of detectors, counted when the burst began, on the whole fleet. `shadow` ones block nobody. "
        "A few an hour are normal; a wall of them is an attack, or a threshold that is too low.",
        f"""
            SELECT
                $__timeInterval(since) AS time,
                concat(cause, if(shadow, ' (shadow)', '')) AS name,
                count() AS decisions
            FROM {NEWEST}
            WHERE since >= toStartOfInterval($__fromTime, INTERVAL $__interval_s second)
            GROUP BY time, name
            ORDER BY time, name
        """,  # noqa: S608 (our own text)
        "short",
        "name",
    )


def blocks() -> Panel:
    return table(
        "Blocks by detectors",
        "Decisions that were in force in the chosen time, the newest first, with their state at its end. To undo one, "
        "paste the command of the last column and add the reason; that ends the block on every host within a second.",
        f"""
            SELECT
                since,
                decisions.subject AS subject,
                cause,
                {STATE} AS state,
                {WHY} AS why,
                arrayStringConcat(hosts, ' ') AS seen_on,
                decisions.until AS until,
                id,
                {release("decisions.subject")} AS undo
            FROM {NEWEST} AS decisions
            LEFT JOIN {WORDS} AS words USING (subject)
            WHERE NOT shadow AND decisions.until >= $__fromTime
            ORDER BY since DESC, id
            LIMIT 100
        """,  # noqa: S608 (our own text)
        {
            "since": {"displayName": "Since", "custom.width": 170},
            "subject": {"displayName": "Who", "custom.width": 280},
            "cause": {"displayName": "Cause", "custom.width": 80},
            "state": {
                "displayName": "State",
                "custom.width": 90,
                **coloured({"in force": BAD, "allowed": INFORMATION, "released": GOOD, "expired": PAST}),
            },
            "why": {"displayName": "Why"},
            "seen_on": {"displayName": "Seen on"},
            "until": {"displayName": "Until", "custom.width": 170},
            "id": {"displayName": "Id", "custom.width": 130},
            "undo": {"displayName": "To undo"},
        },
        "Nobody was blocked in this time",
    )


def shadows() -> Panel:
    return table(
        "Shadow decisions: nobody was blocked",
        "What detectors would have blocked in the chosen time, and why they did not: `detector` is set to shadow, "
        "`pause` is an operator's, `brake` means too many blocks at once. After a brake look at each of them.",
        f"""
            SELECT since, subject, cause, why_shadow, {WHY} AS why, id
            FROM {NEWEST}
            WHERE shadow AND since >= $__fromTime
            ORDER BY since DESC, id
            LIMIT 100
        """,  # noqa: S608 (our own text)
        {
            "since": {"displayName": "Since", "custom.width": 170},
            "subject": {"displayName": "Who", "custom.width": 260},
            "cause": {"displayName": "Cause", "custom.width": 80},
            "why_shadow": {
                "displayName": "Shadow by",
                "custom.width": 90,
                **coloured({"brake": BAD, "pause": MIND, "detector": INFORMATION}),
            },
            "why": {"displayName": "Why"},
            "id": {"displayName": "Id", "custom.width": 130},
        },
        "No shadow decisions in this time",
    )


def operators() -> Panel:
    return table(
        "Operators' words",
        "What people told the fleet in the chosen time, the newest first: see here whether a colleague has already "
        "acted. `pause` holds until `resume`; `end` took a block or an allow back.",
        """
            SELECT time, who, word, subject, reason, nullIf(until, toDateTime64(0, 3, 'UTC')) AS until
            FROM words FINAL
            WHERE day >= toDate($__fromTime) - 1 AND time >= $__fromTime AND time <= $__toTime
            ORDER BY time DESC, subject, word
            LIMIT 100
        """,
        {
            "time": {"displayName": "When", "custom.width": 170},
            "who": {"displayName": "Who", "custom.width": 110},
            "word": {
                "displayName": "Word",
                "custom.width": 80,
                **coloured({"block": BAD, "release": GOOD, "allow": INFORMATION, "pause": MIND, "resume": GOOD}),
            },
            "subject": {"displayName": "On", "custom.width": 220},
            "reason": {"displayName": "Reason"},
            "until": {"displayName": "Until", "custom.width": 170},
        },
        "Nobody said anything in this time",
    )
