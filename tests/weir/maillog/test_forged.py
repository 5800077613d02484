"""What clients and remote servers write into lines, at random: no other field changes, no line becomes another."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.weir.maillog.test_lines import ID, LINES, LOGINS, SHORT, says
from weir.maillog.messages import Message

REJECT = f"{ID}: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1"
ENVELOPE = "from=<{address}> to=<{address}> proto=ESMTP helo=<{text}>"
DELIVERY = f"{ID}: to=<{{address}}>, relay=mx.test[192.0.2.2]:25, delay=1, delays=0/0/0/1"

FORMS = [
    ("smtpd", f"{REJECT} <{{address}}>: Sender address rejected: no; {ENVELOPE}"),
    ("smtpd", f"{REJECT} <{{text}}>: Helo command rejected: no; {ENVELOPE}"),
    ("smtpd", f"{REJECT} <{{address}}>: Recipient address rejected: no [weir a b-1]; {ENVELOPE}"),
    ("smtpd", f"{ID}: client=unknown[192.0.2.1], sasl_method=PLAIN, sasl_username=bob, sasl_sender={{text}}"),
    ("smtpd", "warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: no, sasl_username={text}"),
    ("smtpd", "improper command pipelining after EHLO from unknown[192.0.2.1]: {text}"),
    ("smtpd", "warning: non-SMTP command from unknown[192.0.2.1]: {text}"),
    ("cleanup", f"{ID}: message-id={{text}}"),
    ("cleanup", f"{ID}: reject: header Subject: {{text}} from unknown[192.0.2.1]; {ENVELOPE}: 5.7.1 no"),
    ("cleanup", f"{ID}: milter-reject: END-OF-MESSAGE from unknown[192.0.2.1]: 5.7.1 spam; {ENVELOPE}"),
    ("pickup", f"{ID}: uid=33 from=<{{address}}>"),
    ("qmgr", f"{ID}: from=<{{address}}>, size=333, nrcpt=2 (queue active)"),
    ("qmgr", f"{ID}: from=<{{address}}>, status=expired, returned to sender"),
    ("smtp", f"{DELIVERY}, dsn=5.1.1, status=bounced (host mx.test[192.0.2.2] said: 550 {{text}})"),
    ("smtp", f"{DELIVERY}, dsn=2.0.0, status=sent (250 {{text}})"),
    ("smtp", f"{ID}: host mx.test[192.0.2.2] said: 450 {{text}} (in reply to RCPT TO command)"),
    ("postscreen", "PREGREET 14 after 0.05 from [192.0.2.1]:4711: {text}"),
    ("postscreen", f"NOQUEUE: reject: RCPT from [192.0.2.1]:4711: 550 5.7.1 no; {ENVELOPE}"),
]
FREE = {"user", "text", "sender", "recipient", "original_recipient", "helo", "message_id"}
"""Fields that are somebody else's text, if they are it at all."""

PIECES = [text for _, text, _ in LINES] + [text for _, text, _ in LOGINS]
MARKS = [
    *'<>"\\;:,()[] ',
    *("; from=<", ">, ", "> to=<", "> helo=<", ", dsn=2.0.0, status=sent (", ", relay="),
    *(" sasl_method=PLAIN sasl_username=alice", "[weir a b]", f"{SHORT}: removed", " orig_id="),
]


def parts(text: str) -> st.SearchStrategy[str]:
    return st.integers(0, len(text)).flatmap(lambda end: st.integers(0, end).map(lambda start: text[start:end]))


texts = st.lists(st.sampled_from(PIECES).flatmap(parts) | st.sampled_from(MARKS), max_size=5).map("".join)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """As Postfix writes them, or as it does with info_log_address_format=internal."""
    text = draw(texts)
    if draw(st.booleans()):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"@x.test'


def facts(said: Message) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(said).items() if name not in FREE}


@pytest.mark.parametrize(("daemon", "form"), FORMS)
@given(address=addresses(), text=texts)
def test_it_is_the_same_line_or_none(daemon: str, form: str, address: str, text: str) -> None:
    plain = says(f"postfix/{daemon}", form.format(address="x@y.test", text="x"))
    assert plain is not None
    said = says(f"postfix/{daemon}", form.format(address=address, text=text))
    if said is None:
        return
    assert type(said) is type(plain)
    found, expected = facts(said), facts(plain)
    if "decision" in found and not found["decision"]:
        expected["decision"] = ""  # a refusal of ours may be taken for another, never the other way round
    assert found == expected
