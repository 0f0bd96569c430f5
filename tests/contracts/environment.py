"""A virtual environment with exactly what the distribution requires without extras, built from what is here.

No network: each required distribution of this environment is linked into the new one, and nothing else is.
"""

import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def required(requirements: list[str]) -> dict[str, Distribution]:
    """The distributions those requirements name, and all that these require in turn, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(line), "") for line in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        asked, for_extra = waiting.pop()
        if asked.marker is not None and not asked.marker.evaluate({"extra": for_extra}):
            continue
        dist = found[asked.name] = distribution(asked.name)
        for extra in {"", *asked.extras}:
            if (asked.name, extra) not in seen:
                seen.add((asked.name, extra))
                waiting += [(Requirement(line), extra) for line in dist.requires or ()]
    return found


def environment_of(dists: dict[str, Distribution], folder: Path) -> Path:
    """A virtual environment in `folder` that holds those distributions alone; its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    for dist in dists.values():
        tops = {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(str(dist.locate_file(top))).resolve())
    return folder / "bin" / "python"


def service_environment(folder: Path) -> Path:
    """An environment as a plain install without extras makes it, less our own code; its Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return environment_of(required(project["dependencies"]), folder)
