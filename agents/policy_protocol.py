"""Postfix's policy delegation protocol (SMTPD_POLICY_README) without input and output: bytes in, requests out.

    request=smtpd_access_policy\\nprotocol_state=RCPT\\n…\\n\\n    is answered by    action=DUNNO\\n\\n

Invariants: which requests come out depends on the bytes alone, not on how they were split; what was asked before a
fault still comes out; at most a request and what came with it is held.
"""

Attributes = dict[str, str]
"""One request: name → value. An attribute without a value is left out."""

MAX_LINE = 8 * 1024
"""Bytes of one line, its line break apart."""
MAX_REQUEST = 64 * 1024
"""Bytes of one request, the two line breaks at its end apart."""
MAX_ACTION = 512
"""Octets of an action: Postfix's own bound for a reply."""

_END = b"\n\n"
_DUNNO = b"action=DUNNO\n\n"
_SPACES = dict.fromkeys((*range(0x20), 0x7F), " ")


class ProtocolError(ValueError):
    """What came is no policy request: it gets no reply, and the connection cannot be used any more."""


class RequestReader:
    """The requests of one connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        """Where the next request begins."""
        self._searched = 0
        """No request ends before this."""

    def receive(self, data: bytes) -> None:
        """Take in what the connection brought."""
        if self._start == len(self._buffer):
            self._buffer = data
            self._searched = 0
        else:
            self._buffer = self._buffer[self._start :] + data
            self._searched -= self._start
        self._start = 0

    def next_request(self) -> Attributes | None:
        """The next request, or None until more has come. Raises ProtocolError."""
        end = self._buffer.find(_END, self._searched)
        if end < 0:
            if len(self._buffer) - self._start > MAX_LINE:
                _check_lengths(self._buffer[self._start :].removesuffix(b"\n"))
            self._searched = max(self._start, len(self._buffer) - 1)
            return None
        request = self._buffer[self._start : end]
        self._start = self._searched = end + 2
        return _attributes(request)


def reply(action: str) -> bytes:
    """What goes back to Postfix. Control characters become spaces, and what is too long is cut."""
    if action == "DUNNO":
        return _DUNNO
    text = action.translate(_SPACES).encode(errors="replace")
    if len(text) > MAX_ACTION:
        text = text[:MAX_ACTION].decode(errors="ignore").encode()
    return b"action=" + text + _END


def _attributes(request: bytes) -> Attributes:
    if len(request) > MAX_LINE:
        _check_lengths(request)
    attributes = {}
    for line in request.decode("utf-8", "backslashreplace").split("\n"):
        name, equals, value = line.partition("=")
        if value:
            attributes[name] = value
        elif not equals:
            raise ProtocolError("expected lines of the form name=value")
    if attributes.get("request") != "smtpd_access_policy":
        raise ProtocolError("expected request=smtpd_access_policy")
    return attributes


def _check_lengths(request: bytes) -> None:
    if len(request) > MAX_REQUEST:
        raise ProtocolError(f"expected a request of at most {MAX_REQUEST} bytes")
    if max(map(len, request.split(b"\n"))) > MAX_LINE:
        raise ProtocolError(f"expected lines of at most {MAX_LINE} bytes")
