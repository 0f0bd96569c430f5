"""Which code runs here: the release, and a hash of the worker's own sources.

Reckoned once, when the worker starts: files that are changed under it later are not what it runs.
"""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def sources_sha256(package: Path) -> str:
    """The sha256 of a listing of the package's Python files, `<sha256>  <path>` a line, sorted by path.

    Needs no git; `sha256sum` writes the same listing (docs/forget-receipt.md).
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
"""As a version's manifest says it, and the receipt of a forget."""
