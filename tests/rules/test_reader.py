"""Reading rule files: quotes, comments, lines that belong together, macros; and the place of every character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules.reader import Line, Reader

PLACES = st.text('&{};\\"# \t\r\n=!~<>$%,:/()abA1é', max_size=200)


def read(text: str) -> list[str]:
    return [line.text.characters for line in lines(text)]


def lines(text: str) -> list[Line]:
    reader = Reader()
    found = list(reader.read("rules.cf", text))
    assert reader.errors == []
    return found


def errors(*texts: str) -> list[str]:
    reader = Reader()
    for number, text in enumerate(texts, 1):
        list(reader.read(f"{number}.cf", text))
    return [str(error) for error in reader.errors]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n  \n# only a comment\n", []),
        ("id=A; action=OK", ["id=A; action=OK"]),
        ('id="A"; action=OK # says "yes"', ["id=A; action=OK"]),
        ("id=A\nid=B\n", ["id=A", "id=B"]),
        ("id=A\r\nid=B\r\n", ["id=A", "id=B"]),
        ("id=A; \\\n  action=OK", ["id=A;   action=OK"]),
        ("id=A; \\  \naction=OK", ["id=A; action=OK"]),
        ("id=A\n  action=OK", ["id=A;  action=OK"]),
        ("id=A; \n\taction=OK", ["id=A; \taction=OK"]),
        ("id=A\r\n  action=OK\r\n", ["id=A\r;  action=OK"]),
        ("id=A\n# between\n\n  action=OK\nid=B", ["id=A;  action=OK", "id=B"]),
        ("id=A;\\\n# between\n\naction=OK", ["id=A;action=OK"]),
        ("  id=A\n  action=OK", ["id=A;  action=OK"]),
        ("id=A; action=OK\\", ["id=A; action=OK"]),
        ("id=A; action=OK\n\\", ["id=A; action=OK"]),
        ("id=A\n  action=OK\\", ["id=A;  action=OK"]),
        ("\\\n\\\nid=A", ["id=A"]),
    ],
)
def test_what_is_read_as_a_line(text: str, expected: list[str]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("&&A { x==1 };\nid=R; &&A; action=OK", "id=R;x==1; action=OK"),
        ("&&A{x==1}\nid=R; &&A; action=OK", "id=R;x==1; action=OK"),
        ("&&A {\n  x==1\n  y==2;\n};\nid=R; &&A; action=OK", "id=R;x==1;  y==2; action=OK"),
        ("&&A { x==1 };\n&&B { &&A; y==2 };\nid=R; &&B; action=OK", "id=R;x==1; y==2; action=OK"),
        ("&&B { &&A; y==2 };\n&&A { x==1 };\nid=R; &&B; action=OK", "id=R;x==1; y==2; action=OK"),
        ("&&A { x==1 };\n&&A { x==2 };\n&&A; action=OK", "x==2; action=OK"),
        ("&&A { x==1 };\n&&AB { x==2 };\n&&AB; action=OK", "x==2; action=OK"),
        ("&&A-1_b { x==1 };\n&&A-1_b; action=OK", "x==1; action=OK"),
        ("&&A { x=~a{2} };\n&&A; action=OK", "x=~a{2}; action=OK"),
        ("&&A { };\n&&A; action=OK", "; action=OK"),
        ("&&T { away };\naction=REJECT go &&T now", "action=REJECT goawaynow"),
        ("action=REJECT a && b", "action=REJECT a && b"),
    ],
)
def test_macros_stand_for_their_text(text: str, expected: str) -> None:
    assert read(text) == [expected]


def test_a_macro_is_known_in_later_sources() -> None:
    reader = Reader()
    assert list(reader.read("a.cf", "&&A { x==1 };")) == []
    assert [line.text.characters for line in reader.read("b.cf", "&&A; action=OK")] == ["x==1; action=OK"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=A; &&NOPE; action=OK", "1.cf:1:7: there is no macro &&NOPE before this line"),
        (
            "&&LOCALS { x==1 };\n\nid=A; &&LOCAL; action=OK",
            "1.cf:3:7: there is no macro &&LOCAL before this line; did you mean &&LOCALS?",
        ),
        ("&&A; action=OK\n&&A { x==1 };", "1.cf:1:1: there is no macro &&A before this line"),
        ("&&A {\n  &&B\n};\n&&A; action=OK", "1.cf:2:3: there is no macro &&B before this line"),
        ("&&A { &&A };\n&&A; action=OK", "1.cf:1:7: macro &&A contains itself"),
        ("&&A { &&B };\n&&B { &&A };\n&&A; action=OK", "1.cf:2:7: macro &&A contains itself"),
        ("# é\n&&A { x==1\nid=A; action=OK", "1.cf:2:1: macro &&A: expected } at its end"),
        ("&&A { x==1 } y", "1.cf:1:1: macro &&A: expected } at its end"),
        ("id=A; action=OK \udcfc", "1.cf:1:17: expected UTF-8: convert the file"),
    ],
)
def test_errors_name_their_place(text: str, expected: str) -> None:
    assert errors(text) == [expected]


def test_all_errors_of_all_sources_are_told() -> None:
    assert errors("&&X; action=OK\n&&Y; action=OK", "&&Z; action=OK") == [
        "1.cf:1:1: there is no macro &&X before this line",
        "1.cf:2:1: there is no macro &&Y before this line",
        "2.cf:1:1: there is no macro &&Z before this line",
    ]


def test_bytes_that_are_no_text_do_no_harm_in_comments() -> None:
    assert read("id=A; action=OK # f\udcfcr\n") == ["id=A; action=OK"]


def test_macros_that_double_each_other_end_soon() -> None:
    doubling = "".join(f"&&A{number + 1} {{ &&A{number}; &&A{number} }};\n" for number in range(40))
    assert errors("&&A0 { };\n" + doubling + "&&A40; action=OK") == [
        "1.cf:42:1: macros make a line longer than 1,000,000 characters"
    ]


def test_macros_are_not_nested_for_ever() -> None:
    chain = "".join(f"&&A{number + 1} {{ &&A{number} }};\n" for number in range(2000))
    assert errors("&&A0 { x==1 };\n" + chain + "&&A2000; action=OK") == [
        "1.cf:1952:11: more than 50 macros in one another"
    ]


def test_every_character_knows_where_it_was_read() -> None:
    text = '&&A {\n  x=="1"\n};\nid=R; \\\n  &&A\n  action=OK # so\n'
    reader = Reader()
    (line,) = reader.read("rules.cf", text)
    assert str(reader.position(line.start)) == "rules.cf:4:1"
    placed = {
        str(reader.position(offset)): character
        for character, offset in zip(line.text.characters, line.text.offsets, strict=True)
    }
    assert placed["rules.cf:2:3"] == "x"
    assert placed["rules.cf:2:7"] == "1"
    assert placed["rules.cf:6:3"] == "a"
    assert placed["rules.cf:6:11"] == "K"


@given(PLACES)
def test_any_text_is_read_and_each_character_is_found_again(text: str) -> None:
    reader = Reader()
    for line in reader.read("a.cf", text):
        for character, offset in zip(line.text.characters, line.text.offsets, strict=True):
            position = reader.position(offset)
            written = text.split("\n")[position.line - 1][position.column - 1]
            assert character in (written, ";")  # which is put between lines
    for error in reader.errors:
        assert 1 <= error.position.line <= text.count("\n") + 1
        assert 1 <= error.position.column <= len(text.split("\n")[error.position.line - 1])


@given(st.lists(PLACES, max_size=4))
def test_positions_are_of_their_source(texts: list[str]) -> None:
    reader = Reader()
    for number, text in enumerate(texts):
        for line in reader.read(str(number), text):
            assert reader.position(line.start).file == str(number)
