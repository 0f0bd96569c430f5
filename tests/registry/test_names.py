"""New names are seen as they are: what is invisible, or looks like another name, is refused and named."""

import unicodedata

import pytest

from service.registry.names import escape_unprintable, find_fault

GOOD = [
    "7",
    "T-shirt/top".replace("/", " "),
    "A a",
    "é",
    "ñandú",
    "日本",
    "한국",
    "Ω",
    "नमस्ते",
    "🦊",
    "x_1.2-3",
]

BAD = {
    "": "blank",
    " ": "blank",
    "\u00a0": "blank",
    " 7": "begins or ends with a space",
    "7\u2003": "begins or ends with a space",
    "a  b": "two spaces in a row",
    "a\u00a0b": "character 2, U+00A0 (NO-BREAK SPACE)",
    "7\u200b": "U+200B (ZERO WIDTH SPACE), is not printable",
    "\u202e7": "character 1, U+202E (RIGHT-TO-LEFT OVERRIDE)",
    "7\u009b": "U+009B",
    "7\x1b[2J": "U+001B",
    "\ufeff7": "U+FEFF",
    "7\ufe0f": "U+FE0F (VARIATION SELECTOR-16), is invisible",
    "a\u3164": "U+3164 (HANGUL FILLER), is invisible",
    "\u2800": "U+2800",
    "a\ufffc": "U+FFFC (OBJECT REPLACEMENT CHARACTER), is invisible",
    "a\U00016fe4": "U+16FE4 (KHITAN SMALL SCRIPT FILLER), is invisible",
    "a\U0001d159": "U+1D159 (MUSICAL SYMBOL NULL NOTEHEAD), is invisible",
    "\U000e0041": "U+E0041",
    "\ue000": "U+E000",
    "\uff17": "looks like '7'",
    "\ufb01": "looks like 'fi'",
    "\u2460": "looks like '1'",
    "e\u0301": "NFC",
    "\u212b": "NFC",
    "\u0301a": "combines with a character before it",
}


@pytest.mark.parametrize("name", GOOD)
def test_names_of_any_script_are_accepted(name: str) -> None:
    assert find_fault(unicodedata.normalize("NFC", name)) is None


@pytest.mark.parametrize(("name", "fault"), BAD.items(), ids=map(ascii, BAD))
def test_a_name_that_is_not_what_it_looks_like_is_refused_with_the_character(name: str, fault: str) -> None:
    assert fault in (find_fault(name) or "")


def test_every_single_character_that_is_accepted_shows_something_and_is_its_own_normal_form() -> None:
    accepted = [chr(code) for code in range(0x110000) if find_fault(chr(code)) is None]
    assert len(accepted) > 100_000
    for character in accepted:
        assert unicodedata.normalize("NFKC", character) == character
        assert unicodedata.category(character)[0] not in "CZ"


def test_what_a_terminal_might_obey_is_printed_as_an_escape() -> None:
    assert escape_unprintable("7\x9b2J\u202e é") == r"7\x9b2J\u202e é"
