"""Failpoints: named places in the code where a test makes a process fail.

They do nothing unless the environment variable PALIMPSEST_FAIL_AT names them:

    PALIMPSEST_FAIL_AT=publish.after_commit                  the process exits there, as if it were killed
    PALIMPSEST_FAIL_AT=artifact.write#3:enospc               from the third time on, the disk is full
    PALIMPSEST_FAIL_AT=submit.after_commit:exit:/tmp/once    once: the process that removes /tmp/once exits

Several are separated by commas. With a file, a test chooses the moment: nothing fails until the file is
there. After `hang`, the process goes on when the file is there again; after `wait`, a second later. A service
in production never sets the variable; each command that starts with it logs a warning.
"""

import errno
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

log = logging.getLogger(__name__)

VARIABLE = "PALIMPSEST_FAIL_AT"
POLL_SECONDS = 0.005
"""How often a process that hangs looks for its file."""
WAIT_SECONDS = 1.0
"""How long the action `wait` takes."""

NAMES = frozenset(
    {
        "api.request",
        "artifact.write",
        "claim.after_commit",
        "export.after_store",
        "export.block",
        "export.before_clear",
        "file.sync",
        "images.after_delete",
        "images.after_replace",
        "images.before_replace",
        "migrate.midway",
        "publish.after_commit",
        "publish.after_rename",
        "publish.before_commit",
        "purge.after_delete",
        "purge.after_mark",
        "receipt.before_sign",
        "snapshot.save",
        "submit.after_commit",
        "submit.before_commit",
        "train.nan",
        "train.step",
        "version_deletion.after_delete",
        "worker.start",
    }
)
ACTIONS = frozenset({"abort", "eio", "enospc", "exit", "hang", "kill", "memory", "raise", "wait"})


class UnknownFailpoint(Exception):
    """PALIMPSEST_FAIL_AT names a failpoint or an action that does not exist. The message is one line."""


class InjectedFailure(Exception):
    """An unexpected error, raised by the action `raise`."""


@dataclass(frozen=True)
class Failpoint:
    """What happens at a failpoint that is armed."""

    name: str
    first: int = 1
    """It fails from this time on that the process comes to it."""
    action: str = "exit"
    file: Path | None = None
    """None: it fails each time. Otherwise it fails if it can remove this file."""


def reach(name: str) -> None:
    """Fail here if the failpoint is armed; return at once if it is not."""
    if name in _armed and _is_due(_armed[name]):
        _act(_armed[name])


def is_armed(name: str) -> bool:
    """Whether the failpoint is armed, due or not."""
    return name in _armed


def is_due(name: str) -> bool:
    """Whether the failpoint is armed and due. For failures that the caller produces itself."""
    return name in _armed and _is_due(_armed[name])


def warn_if_armed() -> None:
    """Log a warning if failpoints are armed in this process. Raises UnknownFailpoint."""
    unknown = [one.name for one in _armed.values() if one.name not in NAMES or one.action not in ACTIONS]
    if unknown:
        raise UnknownFailpoint(
            f"{VARIABLE}: no such failpoint or action: {', '.join(unknown)}; the names are "
            f"{', '.join(sorted(NAMES))} and the actions {', '.join(sorted(ACTIONS))}"
        )
    if _armed:
        log.warning(
            "THIS PROCESS FAILS ON PURPOSE at %s, because %s is set: that is for tests only. Unset it",
            ", ".join(sorted(_armed)),
            VARIABLE,
        )


def arm(value: str) -> None:
    """Arm the failpoints that the value names, and no others. For tests in this process."""
    _armed.clear()
    _reached.clear()
    _armed.update(_parse(value))


def _parse(value: str) -> Mapping[str, Failpoint]:
    found = {}
    for one in filter(None, value.split(",")):
        where, _, rest = one.partition(":")
        name, _, first = where.partition("#")
        action, _, file = rest.partition(":")
        found[name] = Failpoint(
            name,
            int(first) if first.isdecimal() else 1,
            action or Failpoint.action,
            Path(file) if file else None,
        )
    return found


def _is_due(failpoint: Failpoint) -> bool:
    with _lock:
        _reached[failpoint.name] += 1
        if _reached[failpoint.name] < failpoint.first:
            return False
    return failpoint.file is None or _remove(failpoint.file)


def _remove(file: Path) -> bool:
    """Remove the file. Of several processes one succeeds."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


def _act(failpoint: Failpoint) -> None:
    match failpoint.action:
        case "exit":
            os._exit(137)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "hang":
            while failpoint.file is None or not _remove(failpoint.file):
                time.sleep(POLL_SECONDS)
        case "wait":
            time.sleep(WAIT_SECONDS)
        case "enospc" | "eio":
            number = errno.ENOSPC if failpoint.action == "enospc" else errno.EIO
            raise OSError(number, os.strerror(number))
        case "memory":
            raise MemoryError
        case _:
            raise InjectedFailure(f"failpoint {failpoint.name}")


_lock = Lock()
_reached: Counter[str] = Counter()
_armed: dict[str, Failpoint] = {}
_armed.update(_parse(os.environ.get(VARIABLE, "")))
