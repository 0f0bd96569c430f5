"""The words check refuses what it is for, and `make check` runs it."""

from pathlib import Path

import pytest

from tests.contracts.plain_words import refused

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("service/queue/messages.py", "# Ring the bell again", ["service/queue/messages.py:1: bell"]),
        ("docs/page.md", "Two witnesses and a Stranger.", ["witnesses", "Stranger"]),
        ("service/page.html", "<p>This house</p>", ["This house"]),
        ("worker/learning/masks.py", "STRANGER_STEPS = 1", ["STRANGER"]),
        ("worker/learning/masks.py", "seams = [seam]", ["name 'seams'", "name 'seam'"]),
        ("worker/learning/masks.py", "labelsToldApart = 1", ["name 'labelsToldApart'"]),
        ("worker/learning/masks.py", "since = now()", ["name 'since'"]),
        ("service/haunted_house.py", "", ["its name has 'haunted'"]),
    ],
)
def test_a_refused_word_is_found_where_it_stands(
    tmp_path: Path, file: str, text: str, found: list[str]
) -> None:
    assert [one in line for one, line in zip(found, written(tmp_path, file, text), strict=True)] == [
        True
    ] * len(found)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("docs/page.md", "Labels told apart since 2026; the warehouse and the rebellion stay."),
        ("docs/decisions/0001-old.md", "The bell, as it was."),
        ("worker/learning/masks.py", "def test_what_was_asked_is_told() -> None: ..."),
        ("worker/learning/masks.py", 'OLD = "stranger_steps"  # plain-words: allow'),
    ],
)
def test_plain_english_and_marked_lines_pass(tmp_path: Path, file: str, text: str) -> None:
    assert written(tmp_path, file, text) == []


def test_make_check_runs_it() -> None:
    assert "tests.contracts.plain_words" in (ROOT / "Makefile").read_text()


def written(folder: Path, file: str, text: str) -> list[str]:
    """What the check says of a file of that name and text."""
    path = folder / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return list(refused(path, root=folder))
