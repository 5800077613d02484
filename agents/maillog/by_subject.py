"""Messages in the queues by the account or local user that sent them: of those that are looked for.

An index of all messages would cost each of them some 45 bytes (184 if its sender has no other) and a tenth of the
tracker's time, for looks that few senders ever see. So there is none of a sender until somebody looks for it:
`agents.maillog.looks` then walks all messages once, and from then on each change is taken in here.

Invariants
- Once filled in, a subject's messages are exactly those in the queues that it sent. Who sent a message may become known
  while it is in a queue (`agents.maillog.filters`), and does not change after that.
- At most MAX_SUBJECTS are known, those that were looked for last. A message of any other takes no memory.
"""

from collections.abc import Collection, Mapping

from agents.maillog.filters import bounded
from agents.maillog.outcomes import Message
from weir import subjects

MAX_SUBJECTS = 1000
"""Far more than are looked for at once."""


class BySubject:
    def __init__(self, default_realm: str) -> None:
        self._default_realm = default_realm
        self.looked_for: dict[str, dict[str, Message]] = {}
        """By subject and queue id; the subject first that was not looked for for the longest time."""
        self._unfilled: set[str] = set()
        """Subjects that may lack messages from before they were looked for."""

    def look_for(self, subject: str) -> bool:
        """Take in its messages from now on. Whether those that are there already are still to be filled in."""
        theirs = self.looked_for.pop(subject, None)
        if theirs is None:
            theirs = {}
            self._unfilled.add(subject)
        bounded(self.looked_for, MAX_SUBJECTS)[subject] = theirs
        self._unfilled &= self.looked_for.keys()
        return subject in self._unfilled

    def unfilled(self) -> dict[str, dict[str, Message]]:
        """As `looked_for`, to be handed to `filled`."""
        return {subject: self.looked_for[subject] for subject in self._unfilled}

    def filled(self, wanted: Mapping[str, dict[str, Message]]) -> None:
        """All messages of these have been added, but for those that were dropped meanwhile and are looked for anew."""
        self._unfilled -= {subject for subject, theirs in wanted.items() if self.looked_for.get(subject) is theirs}

    def of(self, subject: str) -> list[Message]:
        """The messages of a subject that is looked for."""
        return list(self.looked_for[subject].values())

    def add(self, message: Message) -> None:
        """It is in a queue, and what is known of its sender is there."""
        theirs = self.looked_for.get(self._subject(message.user or message.uid))
        if theirs is not None:
            theirs[message.queue_id] = message

    def remove(self, message: Message) -> None:
        """It left the queues."""
        theirs = self.looked_for.get(self._subject(message.user or message.uid))
        if theirs is not None:
            theirs.pop(message.queue_id, None)
            if not theirs:
                theirs.clear()  # an empty dict keeps its memory

    def senders(self, messages: Collection[Message]) -> dict[str | int, str]:
        """Who sent these, by login name or number of the local user, and their subjects; "" is nobody's. Changes
        nothing, and may be asked on any thread."""
        return {sender: self._subject(sender) for sender in {one.user or one.uid for one in messages}}

    def theirs(self, messages: Collection[Message], wanted: Collection[str]) -> list[Message]:
        """Of these messages those that the subjects `wanted` sent. As `senders`."""
        senders = {sender for sender, subject in self.senders(messages).items() if subject in wanted}
        return [one for one in messages if (one.user or one.uid) in senders]

    def _subject(self, sender: str | int) -> str:
        if isinstance(sender, str):
            return subjects.sasl_username(sender, self._default_realm)
        return subjects.uid(sender) if sender >= 0 else ""
