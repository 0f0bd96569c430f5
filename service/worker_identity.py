"""The identity that a worker process sends to the process that started it, before it does anything else.

`python -m worker` runs whichever package `worker` Python finds first. The process that starts a worker makes
sure that it started this project's: it passes the write end of a pipe, and reads the identity from it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROJECT_ROOT = Path(__file__).resolve().parents[1]
"""The folder that this process imports the project's packages from."""
IDENTITY_OPTION = "--identity-fd"
"""The option of the worker's command line for the file descriptor to write the identity to."""


@dataclass(frozen=True)
class WorkerIdentity:
    """Which code a worker process runs."""

    root: Path
    """The folder that its package `worker` was imported from."""
    code: str
    """Release and hash of the worker's sources, as a version's manifest has them."""

    def to_line(self) -> bytes:
        """Return the one line that the worker writes, with its line break."""
        return json.dumps({"root": str(self.root), "code": self.code}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read what `to_line` returned. Raises ValueError if it is something else."""
        try:
            fields = json.loads(line)
            return cls(Path(fields["root"]), str(fields["code"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the identity of a worker: {line!r}") from error
