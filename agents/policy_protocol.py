"""Postfix's policy delegation protocol (SMTPD_POLICY_README) without input and output: bytes in, requests out.

    request=smtpd_access_policy\\nprotocol_state=RCPT\\n…\\n\\n    is answered by    action=DUNNO\\n\\n

A request is read as a `PolicyRequest` (`parse`: what the fleet counts) or as all its attributes (`parse_attributes`:
what rules look at). Lines may end in \\r\\n too.

Invariants: which requests come out depends on the bytes alone, not on how they were split; what was asked before a
fault still comes out; at most a request and what came with it is held.
"""

import re
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import msgspec

from weir.events import MAX_TEXT, Request

MAX_LINE = 8 * 1024
"""Bytes of one line for `parse`, its line break apart."""
MAX_REQUEST = 64 * 1024
"""Bytes of one request, the two line breaks at its end apart."""
MAX_ACTION = 512
"""Octets of an action: Postfix's own bound for a reply."""
MAX_VALUE = 512
"""Characters of an attribute that rules see, as in postfwd (a value is cut there, which its manual does not say)."""
MAX_RULES_ACTION = 2048
"""Octets of an action of rules: one that repeats long attributes comes whole, as from postfwd."""

T = TypeVar("T")

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Number = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class PolicyRequest(Request, tag_field="kind", tag="request", omit_defaults=True, gc=False, kw_only=True):
    """A policy request, read into what becomes its event.

    A text that is missing is "", a number that is missing or none is 0; bytes that are no UTF-8 are written as `\\xNN`.
    Texts are cut to MAX_TEXT, but for `sasl_username`: a subject is made of all of it. Fields of the event that are no
    attributes, `cut` apart, hold nothing to rely on until `agents.requests.fill` has set them.
    """

    protocol_state: Text
    sasl_username: Text = ""
    sasl_method: Text = ""
    sender: Text = ""
    recipient: Text = ""
    recipient_count: Number = 0
    client_address: Text = ""
    client_name: Text = ""
    client_port: Text = ""
    helo_name: Text = ""
    server_address: Text = ""
    queue_id: Text = ""
    instance: Text = ""
    size: Number = 0
    encryption_protocol: Text = ""
    policy_context: Text = ""


_HEAD = b"request=smtpd_access_policy"
_END = b"\n\n"
_ANY_END = re.compile(rb"\n\r?\n")
_DUNNO = b"action=DUNNO\n\n"
_SPACES = dict.fromkeys({*range(0x20), 0x7F} - {ord("\t")}, " ")  # what a reply's text is not (RFC 5321, 4.2)
_NUMBERS = {"recipient_count", "size"}
_TEXTS = {name for name in PolicyRequest.__annotations__ if name not in _NUMBERS}
_decode = msgspec.json.Decoder(PolicyRequest, strict=False).decode
_decode_attributes = msgspec.json.Decoder(dict[str, Annotated[str, msgspec.Meta(max_length=MAX_VALUE)]]).decode


class ProtocolError(ValueError):
    """What came is no policy request: it gets no reply, and the connection cannot be used any more."""


class RequestReader(Generic[T]):
    """The requests of one connection, each read by `read`: from its lines, joined by line breaks."""

    def __init__(self, read: Callable[[bytes], T]) -> None:
        self._read = read
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

    def next_request(self) -> T | None:
        """The next request, or None until more has come. Raises ProtocolError."""
        if self._start == len(self._buffer):  # so it ends for almost all that comes
            return None
        end = self._buffer.find(_END, self._searched)
        if end < 0 or b"\r" in self._buffer:
            return self._next_with_returns()
        request = self._buffer[self._start : end]
        self._start = self._searched = end + 2
        return self._read(request)

    def _next_with_returns(self) -> T | None:
        """The same where a request may end in either way, or has not come to its end."""
        found = _ANY_END.search(self._buffer, self._searched)
        if found is None:
            if len(self._buffer) - self._start > MAX_REQUEST + 1:
                raise ProtocolError(f"expected a request of at most {MAX_REQUEST} bytes")
            self._searched = max(self._start, len(self._buffer) - 2)
            return None
        request = self._buffer[self._start : found.start()]
        self._start = self._searched = found.end()
        return self._read(request.removesuffix(b"\r").replace(b"\r\n", b"\n"))


def parse(lines: bytes) -> PolicyRequest:
    """A request from its lines, joined by line breaks. Raises ProtocolError."""
    if len(lines) > MAX_LINE:
        _check_length(lines)
        if max(map(len, lines.split(b"\n"))) > MAX_LINE:
            raise ProtocolError(f"expected lines of at most {MAX_LINE} bytes")
    # Lines of one `=` each, without quotes and backslashes, become a JSON object by two replacements, and anything
    # else becomes no JSON: so almost every request costs us half of what lines one by one would.
    if b'"' not in lines and b"\\" not in lines and lines.startswith(_HEAD):
        try:
            request = _decode(b'{"seq":0,"time":0,"' + lines.replace(b"=", b'":"').replace(b"\n", b'","') + b'"}')
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            request.cut = False
            return request
    return _parse_lines(lines)


def parse_attributes(lines: bytes) -> dict[str, str]:
    """All attributes of a request, whatever their names; of one that comes twice the last value counts.

    Unlike `parse` it takes requests of any kind, none named included: the caller looks at `request`. Values are cut to
    MAX_VALUE; bytes that are no UTF-8 are written as `\\xNN`; lines without `=` are passed over, as in postfwd. Raises
    ProtocolError for more than MAX_REQUEST bytes.
    """
    _check_length(lines)
    if b'"' not in lines and b"\\" not in lines:  # as in `parse`
        try:
            return _decode_attributes(b'{"' + lines.replace(b"=", b'":"').replace(b"\n", b'","') + b'"}')
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _attributes_by_lines(lines)


def reply(action: str, limit: int = MAX_ACTION) -> bytes:
    """What goes back to Postfix. Control characters become spaces, and what is longer than `limit` octets is cut."""
    if action == "DUNNO":
        return _DUNNO
    text = action.translate(_SPACES).encode(errors="replace")
    if len(text) > limit:
        text = text[:limit].decode(errors="ignore").encode()
    return b"action=" + text + _END


def _attributes_by_lines(lines: bytes) -> dict[str, str]:
    attributes = {}
    for line in lines.decode("utf-8", "backslashreplace").split("\n"):
        name, equals, value = line.partition("=")
        if equals:
            attributes[name] = value[:MAX_VALUE]
    return attributes


def _parse_lines(lines: bytes) -> PolicyRequest:
    """Whatever a request may hold, line by line."""
    request = PolicyRequest(seq=0, time=0.0, protocol_state="")
    is_policy_request = False
    for line in lines.decode("utf-8", "backslashreplace").split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            raise ProtocolError("expected lines of the form name=value")
        if name in _NUMBERS:
            setattr(request, name, _number(value))
        elif name in _TEXTS:
            setattr(request, name, value)
        elif name == "request":
            is_policy_request |= value == "smtpd_access_policy"
    if not is_policy_request:
        raise ProtocolError("expected request=smtpd_access_policy")
    for name in _TEXTS - {"sasl_username"}:
        text = getattr(request, name)
        if len(text) > MAX_TEXT:
            setattr(request, name, text[:MAX_TEXT])
            request.cut = True
    return request


def _number(text: str) -> int:
    try:
        return msgspec.convert(text, Number, strict=False)
    except msgspec.ValidationError:
        return 0


def _check_length(lines: bytes) -> None:
    if len(lines) > MAX_REQUEST:
        raise ProtocolError(f"expected a request of at most {MAX_REQUEST} bytes")
