"""Run one step of a sweep, or one item of it, so that its failure stops nothing else."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from service.registry.errors import DatabaseUnavailable, RegistryError

log = logging.getLogger(__name__)


@contextmanager
def failing_alone(what: str) -> Iterator[None]:
    """Run a block; if it fails, log that, and go on after it. The next sweep tries again.

    what: what is attempted, with the id of what it is about, such as "job job_1: delete its snapshot".
    Raises DatabaseUnavailable if the database is not there. If it only could not do this, the rest goes on.
    """
    try:
        yield
    except DatabaseUnavailable as error:
        if not error.has_answered:
            raise
        log.warning(
            "%s: failed, as the database refuses it (%s); the next sweep tries again", what, error.reason
        )
    except (OSError, RegistryError) as error:
        log.error("%s: failed (%s); the next sweep tries again", what, error)
    except Exception:
        log.exception("%s: failed with an unexpected error; the next sweep tries again", what)
