"""Virtual environments as `pip install palimpsest` makes them, with or without extras, but without a network.

The distributions that pyproject.toml requires are linked from the environment that runs the tests; nothing
else is in the new one, our own code included.
"""

import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def environment(folder: Path, *extras: str) -> Path:
    """Create the environment of an installation with these extras in `folder`; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    for dist in distributions(requirements(*extras)).values():
        tops = {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(str(dist.locate_file(top))).resolve())
    return folder / "bin" / "python"


def requirements(*extras: str) -> list[str]:
    """List what pyproject.toml requires with these extras. One may contain another: palimpsest[service]."""
    found: list[str] = list(PROJECT["dependencies"])
    for extra in extras:
        for line in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name == PROJECT["name"]:
                found += requirements(*requirement.extras)
            else:
                found.append(line)
    return found


def distributions(lines: list[str]) -> dict[str, Distribution]:
    """Find the distributions that the requirements name, and all that these require in turn, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(line), "") for line in lines]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, for_extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": for_extra}):
            continue
        dist = found[requirement.name] = distribution(requirement.name)
        for extra in {"", *requirement.extras}:
            if (requirement.name, extra) not in seen:
                seen.add((requirement.name, extra))
                waiting += [(Requirement(line), extra) for line in dist.requires or ()]
    return found
