"""Which code this process runs: the release, and a hash of the worker's own source files.

Computed once, when the worker starts: it does not run what is written to these files later.
"""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def sources_sha256(package: Path) -> str:
    """Return the sha256 of a listing of the package's Python files.

    A line is `<sha256>  <path>`; lines are sorted by path. `sha256sum` writes the same listing, so that the
    hash can be computed without git (docs/forget-receipt.md).
    """
    paths = sorted(path.relative_to(package.parent).as_posix() for path in package.rglob("*.py"))
    lines = [f"{sha256((package.parent / path).read_bytes()).hexdigest()}  {path}\n" for path in paths]
    return sha256("".join(lines).encode()).hexdigest()


def _release() -> str:
    try:
        return version("palimpsest")
    except PackageNotFoundError:
        return "from source"


CODE = f"palimpsest {_release()}, worker sha256:{sources_sha256(Path(__file__).parents[1])}"
"""As it stands in a version's manifest and in the receipt of a forget."""
