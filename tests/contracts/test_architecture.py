"""docs/architecture.md lists the packages as they are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/architecture.md").read_text()
PACKAGES = (
    "benchmarks",
    "commands",
    "experiments",
    "migrations",
    "palimpsest",
    "reports",
    "service",
    "worker",
)
INSIDE_ONE_LINE = {"migrations/versions/", "worker/learning/judging/weights/"}
"""Folders that the line of their parent describes."""


def listed() -> list[str]:
    """Every path of the listing under "Packages", from the top of the repository."""
    listing = re.search(r"```\n(service/.*?)```", DOCUMENT, flags=re.DOTALL)
    assert listing is not None
    paths: list[str] = []
    folders: list[str] = []
    for line in listing.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        paths.append("".join(folders[:depth]) + name)
        if name.endswith("/"):
            folders[depth:] = [name]
    return paths


def test_every_path_it_lists_exists() -> None:
    assert len(listed()) > 25
    assert [path for path in listed() if not (ROOT / path).exists()] == []


def test_it_lists_every_package() -> None:
    folders = {
        f"{path.parent.relative_to(ROOT)}/" for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    }
    assert folders - set(listed()) - INSIDE_ONE_LINE == set(), "give them a line in docs/architecture.md"
