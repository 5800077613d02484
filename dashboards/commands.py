"""The commands that a panel offers, as SQL that makes their text.

Invariant: what a stranger chose (a login name) is quoted, so that a command can be pasted into a shell.
"""


def shell(text: str) -> str:
    """SQL for the text of the SQL expression `text` as one word of a shell: in quotes unless it is harmless."""
    quoted = rf"concat('\'', replaceAll({text}, '\'', '\'\\\'\''), '\'')"
    return f"if(match({text}, '^[A-Za-z0-9]') AND NOT match({text}, '[^A-Za-z0-9@._:/+-]'), {text}, {quoted})"


def history(account: str) -> str:
    """SQL for the command that shows what the account of the SQL expression did."""
    # What could be taken for an address or an option is given as a subject, in full.
    subject = f"concat('sasl_username:', {account})"
    is_clear = f"match({account}, '^[A-Za-z0-9][^:]*@')"
    return f"concat('weir history ', if({is_clear}, {shell(account)}, {shell(subject)}))"


def release(subject: str) -> str:
    """SQL for the command that ends all blocks of a subject; the reason is for the operator to add."""
    return f"concat('weir release ', {shell(subject)}, ' --reason ')"
