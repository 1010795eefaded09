"""What nobody sees has no place in a name."""

import pytest

from control_api.domain.content_rules import read_submission
from control_api.domain.texts import composed, unseen_in
from tests.unit.control_api.samples import a_submission


@pytest.mark.parametrize(
    "text",
    [
        "Summer Sale",
        "Été à 50 %",
        "Лето",
        "夏のセール",
        "नमस्\u200cते",
        "👩\u200d🚀 launch",
        "<b>'; DROP TABLE x; --</b>",
        "Ⅳ™ ½",
    ],
)
def test_whatever_can_be_read_is_taken_as_it_is(text: str) -> None:
    assert unseen_in(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Sale\u200b",
        "\u202eelaS",
        "Sa\u00adle",
        "Sale\ufeff",
        "Sa\u2066le",
        "a\tb",
        "a\nb",
        "a\u2028b",
        "a\x1bb",
        "\u200dSale",
    ],
)
def test_what_cannot_be_seen_is_refused(text: str) -> None:
    assert unseen_in(text)
    errors = read_submission(a_submission(name=f"x{text}x" if text[0] != "\u200d" else text), "EUR").errors
    assert [error.pointer for error in errors] == ["/name"]


def test_a_description_has_lines_but_no_hidden_directions() -> None:
    assert unseen_in("first\r\n\tsecond", lines=True) is None
    errors = read_submission(a_submission(description="first\n\u202edrow"), "EUR").errors
    assert [error.pointer for error in errors] == ["/description"]


def test_one_way_to_write_a_character() -> None:
    assert composed("  Cafe\u0301 ") == "Café"
    assert read_submission(a_submission(name=" Cafe\u0301"), "EUR").content.name == "Café"


def test_a_name_has_its_bound_as_it_is_kept() -> None:
    # U+0958 is kept as two characters, in every form of Unicode.
    assert read_submission(a_submission(name="\u0958" * 127), "EUR").errors == ()
    errors = read_submission(a_submission(name="\u0958" * 128), "EUR").errors
    assert [error.pointer for error in errors] == ["/name"]
    assert read_submission(a_submission(name="e\u0301" * 127), "EUR").errors == ()
