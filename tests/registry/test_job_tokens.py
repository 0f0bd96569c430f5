"""A token changes whenever a client would see a change of the job."""

from service.registry.job_tokens import read_tokens
from service.registry.jobs import MAX_QUEUE_POSITION, queue_positions
from tests.registries import Registry


def test_tokens_change_with_the_queue_position_as_far_as_it_is_shown(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    waiting = [registry.submit("resize") for _ in range(MAX_QUEUE_POSITION + 3)]
    ids = [job.id for job in waiting]
    before = read_tokens(registry.database, ids)
    with registry.database.reading() as session:
        shown = queue_positions(session, [registry.job(job) for job in waiting])
    assert len({before[job] for job in ids}) == len(set(shown.values())) == MAX_QUEUE_POSITION + 1
    registry.publish(registry.claim(waiting[0]))
    after = read_tokens(registry.database, ids)
    changed = [job for job in ids if after[job] != before[job]]
    assert changed == ids[: MAX_QUEUE_POSITION + 1]


def test_unknown_jobs_have_no_token(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    assert list(read_tokens(registry.database, [job.id, "job_00000000000000000000000000", ""])) == [job.id]
