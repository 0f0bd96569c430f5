"""Open the deployment that a command runs on: its settings, its log and its database.

Imports nothing of the API, so that a worker starts without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import ValidationError

from commands.failure import fail
from migrations import check_not_newer
from service import failpoints, home, logs
from service.durable import DISK_FULL
from service.process.errors import CannotStart
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, RegistryError
from service.registry.store import StoreFailed
from service.settings import Settings, load_settings


def open_database(deployment: Settings) -> Database:
    """Open the database. It need not be reachable yet: the worker and the sweeper wait for it.

    Raises DatabaseTooNew if a newer release has migrated it.
    """
    database = Database(deployment.database_url)
    with suppress(DatabaseUnavailable):
        check_not_newer(database)
    return database


@contextmanager
def loaded_deployment() -> Iterator[Settings]:
    """Load the settings and log to stderr. A known error in the block prints one line and exits with 1."""
    try:
        deployment = load_settings()
        home.restrict_new_files(deployment)
        logs.configure(level=deployment.log_level, log_format=deployment.log_format)
        failpoints.warn_if_armed()
        yield deployment
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"PALIMPSEST_{str(first['loc'][0]).upper()}: {first['msg']}")
    except DatabaseUnavailable as error:
        fail(f"{error.message} ({error.reason})")
    except (CannotStart, RegistryError, failpoints.UnknownFailpoint) as error:
        fail(str(error))
    except StoreFailed as error:
        fail(f"{error.strerror}; check PALIMPSEST_ARTIFACTS_URL and the variables AWS_*")
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        fail(f"the disk is too full ({error.strerror}: {error.filename or 'unknown file'}); free some space")
