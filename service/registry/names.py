"""The rule for new names that clients choose: each shows what it is, and two that look alike are the same.

Rows of earlier releases may have names that break the rule. They are still found by these names, because
only new names are checked.
"""

import re
import unicodedata

INVISIBLE_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFFC, 0xFFFC),
    (0x16FE4, 0x16FE4),
    (0x1D159, 0x1D159),
    (0xE0100, 0xE01EF),
)
"""Characters that Unicode counts as printable and that show nothing: default ignorable code points (Unicode
Standard, section 5.21), the blank Braille pattern, the place of an object, a filler and an empty note."""


LOOKALIKES = str.maketrans(
    "АВСЕНІЈКМОРЅТХУаеорсхуіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧοѵԁԛԝ",  # noqa: RUF001
    "ABCEHIJKMOPSTXYaeopcxyijsABEZHIKMNOPTYXovdqw",
)
"""Letters of the Cyrillic and Greek alphabets that look like Latin ones in most fonts."""


def as_it_looks(name: str) -> str:
    """Return what two names have in common that a reader cannot tell apart, though their alphabets differ."""
    return unicodedata.normalize("NFC", name).translate(LOOKALIKES)


def find_fault(name: str) -> str | None:
    """Return what is wrong with a new name, and at which character; None if nothing is."""
    if not name.strip():
        return "it is blank"
    if name != name.strip():
        return "it begins or ends with a space"
    if "  " in name:
        return "it has two spaces in a row, which a page shows as one"
    for position, character in enumerate(name, start=1):
        if fault := _fault_of_character(character):
            return f"its character {position}, {_describe(character)}, {fault}"
    if unicodedata.combining(name[0]):
        return f"it begins with {_describe(name[0])}, which combines with a character before it"
    if not unicodedata.is_normalized("NFC", name):
        position = _first_difference(name, unicodedata.normalize("NFC", name))
        return f"from character {position} on it is not in the composed form of Unicode (NFC)"
    return None


def is_storable(text: str) -> bool:
    """Whether a database can hold the text. PostgreSQL takes no NUL, and UTF-8 has no half surrogate pairs.

    Nothing has such a text for its name, so whoever looks one up need not ask the database, which may fail.
    """
    return not _UNSTORABLE.search(text)


_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def escape_unprintable(text: str) -> str:
    """Return the text with escapes such as \\x9b in place of characters that a terminal might obey."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _fault_of_character(character: str) -> str | None:
    if not character.isprintable():  # control, format, private and unassigned ones, and spaces but U+0020
        return "is not printable"
    if any(first <= ord(character) <= last for first, last in INVISIBLE_RANGES):
        return "is invisible"
    plain = unicodedata.normalize("NFKC", character)
    if unicodedata.normalize("NFC", character) != plain:  # a full-width digit, a ligature, a circled number
        return f"looks like {plain!r}; write that"
    return None


def _describe(character: str) -> str:
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")


def _first_difference(one: str, other: str) -> int:
    """Return the position, from 1, of the first character in which the texts differ."""
    same = zip(one, other, strict=False)
    return next((at for at, pair in enumerate(same, start=1) if pair[0] != pair[1]), len(other) + 1)
