"""docs/faults.md has a row for each fault, and the tests that it names exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs/faults.md").read_text(), flags=re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")
FAULTS = 61


def test_every_fault_has_one_row_with_a_test_or_a_reason() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, FAULTS + 1))
    untested = {number for number, text in ROWS if not TEST.search(text)}
    assert untested == {number for number, text in ROWS if "not provoked" in text}


def test_every_test_that_it_names_exists() -> None:
    named = [test for _, text in ROWS for test in TEST.findall(text)]
    assert len(named) >= FAULTS
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).exists() or (name and f"def {name}(" not in (ROOT / file).read_text())
    ]
    assert missing == []
