"""Which code this process runs: the release, and a hash of the source files of `worker` and `reports`.

Computed once, when the worker starts, because a running worker does not notice later changes to these files.
`reports` is included because its thresholds decide on verdicts and acceptance.
"""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import reports


def sources_sha256(*packages: Path) -> str:
    """Return the sha256 of a listing of the packages' Python files.

    A line is `<sha256>  <path>`; lines are sorted by path. `sha256sum` writes the same listing, so that the
    hash can be computed without git (docs/forget-receipt.md).
    """
    files = {
        path.relative_to(package.parent).as_posix(): path
        for package in packages
        for path in package.rglob("*.py")
    }
    lines = [f"{sha256(files[name].read_bytes()).hexdigest()}  {name}\n" for name in sorted(files)]
    return sha256("".join(lines).encode()).hexdigest()


def _release() -> str:
    try:
        return version("palimpsest")
    except PackageNotFoundError:
        return "from source"


PACKAGES = (Path(reports.__file__).parent, Path(__file__).parents[1])
CODE = f"palimpsest {_release()}, worker sha256:{sources_sha256(*PACKAGES)}"
"""The code version, as written to the manifest of a version and to the receipt of a forget."""
