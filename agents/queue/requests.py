"""What the agent asks the queue's helper: one line of JSON on a connection of its own, and one line back.

    {"verb":"hold","instance":"postfix","ids":["4jYmyW0Nsyz1SWGt"]}    put these on hold; done: those that we hold now
    {"verb":"release","instance":"postfix","ids":[…]}                  of those that we hold; done: those released
    {"verb":"delete","instance":"postfix","ids":[…]}                   of those that we hold; done: those deleted
    {"verb":"submit","names":["www-data"]}                             refuse what these, and no others, submit locally

    {"done":["4jYmyW0Nsyz1SWGt"],"error":""}

Invariant: what decodes is one of these verbs, with ids and names of which none can be anything else to a command or in
a table of Postfix.
"""

import re
from typing import Annotated, TypeAlias

import msgspec

from weir.maillog import patterns

MAX_IDS = 500
MAX_NAMES = 1000
MAX_LINE = 128 * 1024
"""Bytes of a request or a reply: more than the most ids or names take."""

QUEUE_ID = rf"\A{patterns.QUEUE_ID}\Z"
"""`ALL`, which postsuper takes for every message, is none."""
LOGIN_NAME = r"\A[A-Za-z0-9_][A-Za-z0-9_.@$+-]{0,63}\Z"
"""In a list of Postfix `!`, `/` and `:` have a meaning, commas and spaces separate, `#` begins a comment."""

is_login_name = re.compile(LOGIN_NAME).fullmatch

QueueId: TypeAlias = Annotated[str, msgspec.Meta(pattern=QUEUE_ID)]
LoginName: TypeAlias = Annotated[str, msgspec.Meta(pattern=LOGIN_NAME)]
QueueIds: TypeAlias = Annotated[list[QueueId], msgspec.Meta(max_length=MAX_IDS)]
LoginNames: TypeAlias = Annotated[list[LoginName], msgspec.Meta(max_length=MAX_NAMES)]


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="hold"):
    instance: str
    ids: QueueIds


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="release"):
    instance: str
    ids: QueueIds


class Delete(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="delete"):
    instance: str
    ids: QueueIds


class Submit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="verb", tag="submit"):
    names: LoginNames


Request: TypeAlias = Hold | Release | Delete | Submit


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    done: list[str] = []
    """Ids, or names, as asked; without those of which there was nothing to do."""
    error: str = ""
    """Why the request was not, or not wholly, carried out; it may be asked again."""


encode = msgspec.json.Encoder().encode
_request_decoder = msgspec.json.Decoder(Request)
_reply_decoder = msgspec.json.Decoder(Reply)


def decode_request(line: bytes) -> Request:
    """Raises ValueError for what is no request."""
    try:
        request: Request = _request_decoder.decode(line)
    except RecursionError:
        raise ValueError("expected no lists within lists") from None
    return request


def decode_reply(line: bytes) -> Reply:
    """Raises ValueError for what is no reply."""
    return _reply_decoder.decode(line)
