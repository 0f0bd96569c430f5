"""Who may read the home folder: the user that the service runs as and, if a setting says so, its group.

New files get their permissions from the umask. A home that an earlier release made is restricted once.
"""

import logging
import os
import stat
from pathlib import Path

from service.settings import Settings

log = logging.getLogger(__name__)

DATABASE_FILES = ("palimpsest.db", "palimpsest.db-wal", "palimpsest.db-shm")
OWN_FILES = ("artifacts", "erasures.jsonl", "judges", "keys", "lock", "queue", *DATABASE_FILES)
"""What the service makes in its home. Datasets may be shared with other programs."""
KNOWN_FILES = {*OWN_FILES, "datasets"}


def restrict_new_files(deployment: Settings) -> None:
    """Set the umask of this process, and so of its children: 0077, or 0007 with `group_access`."""
    os.umask(_forbidden(deployment))


def restrict_home(deployment: Settings) -> None:
    """Take from other users the access to the home folder and to what the service made in it.

    Does nothing where the folder is restricted already: nobody else can reach what is in it. The folder
    itself keeps its permissions if it contains files that are not the service's.
    """
    home, forbidden = deployment.home, _forbidden(deployment)
    if not home.is_dir() or not _mode(home) & forbidden:
        return
    foreign = sorted({path.name for path in home.iterdir()} - KNOWN_FILES)
    own = [path for name in OWN_FILES for path in _walk(home / name)]
    paths = own if foreign else [*own, home]
    changed = sum(_restrict(path, forbidden) for path in paths)
    if changed:
        log.info("removed the access of other users to %d files and folders in %s", changed, home)
    if foreign:
        log.warning(
            "other users can list %s: its permissions were left as they are, because it contains files "
            "that are not Palimpsest's (such as %s); use a folder that contains nothing else",
            *(home, foreign[0]),
        )
    elif _mode(home) & forbidden:
        log.warning("other users can read %s, and its permissions cannot be changed: own the folder", home)


def may_others_read(deployment: Settings) -> bool:
    """Whether other users can list the home folder."""
    return bool(_mode(deployment.home) & _forbidden(deployment))


def _forbidden(deployment: Settings) -> int:
    return 0o007 if deployment.group_access else 0o077


def _walk(path: Path) -> list[Path]:
    """Return the path and all that is under it, without symbolic links."""
    found = [path] if path.exists() and not path.is_symlink() else []
    for folder, folders, files in os.walk(path):
        found += [child for name in (*folders, *files) if not (child := Path(folder, name)).is_symlink()]
    return found


def _restrict(path: Path, forbidden: int) -> bool:
    """Remove these permissions; return whether the path had any of them."""
    try:
        mode = _mode(path)
        if mode & forbidden:
            path.chmod(mode & ~forbidden)
        return bool(mode & forbidden)
    except OSError:  # deleted meanwhile, or another user's: the folder above is restricted
        return False


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
