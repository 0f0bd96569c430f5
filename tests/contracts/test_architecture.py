"""docs/architecture.md draws the house as it stands."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AS_FOLDERS = {"api", "networks", "continual", "unlearning", "resizing", "judging", "datasets"}
DOCUMENT = (ROOT / "docs/architecture.md").read_text()


def drawn() -> list[str]:
    """Every path in the drawn tree, from the top of the repository."""
    tree = re.search(r"```\n(service/.*?)```", DOCUMENT, flags=re.DOTALL)
    assert tree is not None
    paths: list[str] = []
    folders: list[str] = []
    for line in tree.group(1).splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.match(r"[\w./]+(, [\w./]+)*", line.strip())
        assert names is not None, line
        for name in names.group().split(", "):
            paths.append("".join(folders[:depth]) + name)
        if line.strip().split()[0].endswith("/"):
            folders[depth:] = [line.strip().split()[0]]
    return paths


def test_every_path_it_draws_exists() -> None:
    assert len(drawn()) > 50
    assert [path for path in drawn() if not (ROOT / path).exists()] == []


def test_every_module_of_the_house_has_a_place_in_it() -> None:
    """A file is drawn by name, or its folder is; api/ and one-file-one-thing folders are drawn as folders."""
    places = set(drawn())
    homeless = [
        str(path.relative_to(ROOT))
        for package in ("service", "worker")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
        and path.parent.name not in AS_FOLDERS
        and str(path.relative_to(ROOT)) not in places
    ]
    assert homeless == [], "give them a line in docs/architecture.md"
