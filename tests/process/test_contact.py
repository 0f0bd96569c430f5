"""After an interruption no lease is taken for a while, so that living workers can extend theirs."""

from datetime import UTC, datetime, timedelta

import pytest

from service.process.contact import Contact
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def contact() -> Contact:
    return Contact(lease_seconds=6.0, sweep_seconds=0.5)


def answer(contact: Contact, at: float, clock_set_by: float = 0.0) -> bool:
    """Let the database answer at that second, when its clock was set forward by so many seconds."""
    return contact.note(at, NOON + timedelta(seconds=at + clock_set_by))


def test_a_process_that_starts_takes_leases_at_once() -> None:
    assert answer(contact(), 1000.0)


@pytest.mark.parametrize("outage", [4.0, 3600.0])
def test_after_an_outage_leases_are_taken_a_lease_later(outage: float) -> None:
    one = contact()
    assert answer(one, 0.0)
    assert not answer(one, outage)
    assert not answer(one, outage + 3.0)
    assert answer(one, outage + 6.0)


def test_a_pause_of_less_than_half_a_lease_ends_no_lease() -> None:
    one = contact()
    assert answer(one, 0.0)
    assert answer(one, 3.0)


def test_a_clock_that_is_set_forward_ends_no_lease() -> None:
    one = contact()
    assert answer(one, 0.0)
    assert not answer(one, 0.5, clock_set_by=3600.0)
    assert not answer(one, 3.5, clock_set_by=3600.0)
    assert answer(one, 6.5, clock_set_by=3600.0)


def test_what_was_done_while_the_database_hung_is_rolled_back(database: Database) -> None:
    one = Contact(lease_seconds=0.0, sweep_seconds=0.0)  # so that any time at all is too long
    with database.transaction() as session:
        one.is_steady(session)
    with pytest.raises(DatabaseUnavailable):
        one.require_prompt()
