"""Postfix's policy delegation protocol (SMTPD_POLICY_README) without input and output: bytes in, requests out.

    request=smtpd_access_policy\\nprotocol_state=RCPT\\n…\\n\\n    is answered by    action=DUNNO\\n\\n

Invariants: which requests come out depends on the bytes alone, not on how they were split; what was asked before a
fault still comes out; at most a request and what came with it is held.
"""

from typing import Annotated, Literal

import msgspec

from weir.events import MAX_TEXT

MAX_LINE = 8 * 1024
"""Bytes of one line, its line break apart."""
MAX_REQUEST = 64 * 1024
"""Bytes of one request, the two line breaks at its end apart."""
MAX_ACTION = 512
"""Octets of an action: Postfix's own bound for a reply."""

Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Number = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class PolicyRequest(msgspec.Struct, gc=False, kw_only=True):
    """The attributes that we use. One that is missing is "" or 0, as is a number that is none; bytes that are no
    UTF-8 are written as `\\xNN`.
    """

    request: Literal["smtpd_access_policy"]
    protocol_state: Text = ""
    sasl_username: Text = ""
    """The one text that is never cut: a subject is made of all of it."""
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
    cut: bool = msgspec.field(default=False, name="=")  # a name that no attribute can have
    """A text was cut to MAX_TEXT characters."""


_END = b"\n\n"
_DUNNO = b"action=DUNNO\n\n"
_SPACES = dict.fromkeys((*range(0x20), 0x7F), " ")
_NUMBERS = {"recipient_count", "size"}
_TEXTS = {*PolicyRequest.__struct_fields__} - _NUMBERS - {"request", "cut"}
_decode = msgspec.json.Decoder(PolicyRequest, strict=False).decode


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

    def next_request(self) -> PolicyRequest | None:
        """The next request, or None until more has come. Raises ProtocolError."""
        end = self._buffer.find(_END, self._searched)
        if end < 0:
            if len(self._buffer) - self._start > MAX_LINE:
                _check_lengths(self._buffer[self._start :].removesuffix(b"\n"))
            self._searched = max(self._start, len(self._buffer) - 1)
            return None
        request = self._buffer[self._start : end]
        self._start = self._searched = end + 2
        return parse(request)


def parse(request: bytes) -> PolicyRequest:
    """A request from its lines, joined by line breaks. Raises ProtocolError."""
    if len(request) > MAX_LINE:
        _check_lengths(request)
    # Lines of one `=` each, without quotes and backslashes, become a JSON object by two replacements, and anything
    # else becomes no JSON: so almost every request costs us half of what lines one by one would.
    if b'"' not in request and b"\\" not in request:
        try:
            return _decode(b'{"' + request.replace(b"=", b'":"').replace(b"\n", b'","') + b'"}')
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _parse_lines(request)


def reply(action: str) -> bytes:
    """What goes back to Postfix. Control characters become spaces, and what is too long is cut."""
    if action == "DUNNO":
        return _DUNNO
    text = action.translate(_SPACES).encode(errors="replace")
    if len(text) > MAX_ACTION:
        text = text[:MAX_ACTION].decode(errors="ignore").encode()
    return b"action=" + text + _END


def _parse_lines(request: bytes) -> PolicyRequest:
    """Whatever a request may hold, line by line."""
    attributes: dict[str, str] = {}
    for line in request.decode("utf-8", "backslashreplace").split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            raise ProtocolError("expected lines of the form name=value")
        attributes[name] = value
    if attributes.get("request") != "smtpd_access_policy":
        raise ProtocolError("expected request=smtpd_access_policy")
    known = PolicyRequest(request="smtpd_access_policy")
    for name in _TEXTS & attributes.keys():
        text = attributes[name]
        if len(text) > MAX_TEXT and name != "sasl_username":
            text = text[:MAX_TEXT]
            known.cut = True
        setattr(known, name, text)
    for name in _NUMBERS & attributes.keys():
        setattr(known, name, _number(attributes[name]))
    return known


def _number(text: str) -> int:
    try:
        return msgspec.convert(text, Number, strict=False)
    except msgspec.ValidationError:
        return 0


def _check_lengths(request: bytes) -> None:
    if len(request) > MAX_REQUEST:
        raise ProtocolError(f"expected a request of at most {MAX_REQUEST} bytes")
    if max(map(len, request.split(b"\n"))) > MAX_LINE:
        raise ProtocolError(f"expected lines of at most {MAX_LINE} bytes")
