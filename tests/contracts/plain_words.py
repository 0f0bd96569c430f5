"""Refuse words that only this project's past explains: `python -m tests.contracts.plain_words [PATH ...]`.

Some words are refused everywhere, in text and in names. Others are good English but poor names: they are
refused as Python identifiers only. docs/architecture.md has the words to use instead. Decision records and
the migrations of earlier releases are exempt: they say what was.
"""

import io
import keyword
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IN_TEXT_AND_NAMES = re.compile(
    r"(?<![a-z])(?:bells?|rung|workshops?|strangers?|witness(?:es)?|impostors?|haunted|(?:this|the|our) house"
    r"|house of code)(?![a-z])",
    re.IGNORECASE,
)
IN_NAMES_AT_ALL = {
    *(
        "asked",
        "keyed",
        "told",
        "becoming",
        "amid",
        "taught",
        "untaught",
        "honest",
        "keeping",
        "seam",
        "seams",
    ),
    *("lesson", "lessons", "legible", "bench", "workbench", "house", "haunted"),
}
"""Refused as any part of an identifier, between underscores."""
WHOLE_NAMES = {"apart", "since", "alone", "traces", "ring", "ringing", "verifying", "stores"}
"""Refused as a whole identifier."""
ALLOWED_FILES = re.compile(
    r"docs/decisions/|docs/results/|migrations/versions/000[1-7]|tests/releases/\d|CHANGELOG\.md$"
    r"|tests/contracts/(test_)?plain_words\.py$|constraints\.txt$|LICENSE$"
)
ALLOWED_LINES = re.compile(r"plain-words: allow")
"""Marks a line that has to name what an earlier release wrote."""


def main(arguments: list[str]) -> int:
    found = [line for path in _paths(arguments) for line in refused(path)]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


def refused(path: Path, root: Path = ROOT) -> Iterator[str]:
    """`FILE:LINE: word` of everything the file says that it should not."""
    name = path.relative_to(root).as_posix()
    if ALLOWED_FILES.search(name):
        return
    yield from (
        f"{name}: its name has {one[0]!r}" for one in IN_TEXT_AND_NAMES.finditer(name.replace("_", " "))
    )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    lines = text.splitlines()
    allowed = {number for number, line in enumerate(lines, start=1) if ALLOWED_LINES.search(line)}
    for number, line in enumerate(lines, start=1):
        if number not in allowed:
            words = IN_TEXT_AND_NAMES.finditer(line.replace("_", " "))
            yield from (f"{name}:{number}: {one[0]}" for one in words)
    if path.suffix == ".py":
        yield from (
            f"{name}:{number}: name {one!r}" for number, one in _poor_names(text) if number not in allowed
        )


def _poor_names(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", token.string).lower().strip("_")
            if name.startswith("test_"):  # a sentence, which the words of text are for
                continue
            if name in WHOLE_NAMES or IN_NAMES_AT_ALL & set(name.split("_")):
                yield token.start[0], token.string


def _paths(arguments: list[str]) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / one for one in sorted(listed.split("\0")) if one and (ROOT / one).is_file()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
