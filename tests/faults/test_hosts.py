"""API, sweeper, two workers, PostgreSQL, Redis and S3 storage, each on a host of its own. Wires are cut."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import httpx2
import pytest
from sqlalchemy import select

from migrations import upgrade
from service.registry import keys
from service.registry.tables import JobRow
from service.settings import Settings
from tests import invariants
from tests.faults.hosts import Host, joined_hosts
from tests.faults.servers import own_postgresql, own_redis, postgresql_url, redis_url
from tests.instance import Instance, instance_of, wait_for
from tests.s3 import own_s3

PROCESSES = {"api": "serve", "sweeper": "sweep", "first": "worker", "second": "worker"}
SERVERS = ("database", "broker", "store")
MODELS = ("one", "two", "three")
STEPS = 3000
"""Seconds of training: long enough that a cut comes in the middle."""


@dataclass
class Cluster:
    """A deployment whose parts share neither a host nor a folder."""

    instance: Instance
    signer: Settings
    hosts: dict[str, Host]

    def host_of(self, pid: int) -> Host:
        """Return the host that the process with this id runs on."""
        (host,) = (one for one in self.hosts.values() if one.runs(pid))
        return host


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("hosts")
    with ExitStack() as stack:
        hosts = stack.enter_context(joined_hosts(*PROCESSES, *SERVERS))
        postgresql = stack.enter_context(own_postgresql(host=hosts["database"]))
        redis = stack.enter_context(own_redis(hosts["broker"]))
        s3 = stack.enter_context(own_s3(hosts["store"]))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        bucket = s3.make_bucket(versioned=True)
        settings = {
            role: Settings(
                home=folder / role,
                database_url=postgresql_url(postgresql),
                broker_url=redis_url(redis),
                artifacts_url=f"s3://{bucket}/p",
                signer=role == "sweeper",
                host=hosts["api"].address,
                port=0,
            )
            for role in PROCESSES
        }
        instance = stack.enter_context(instance_of(settings["api"], folder))
        upgrade(instance.database)
        with instance.database.transaction() as session:
            _, text = keys.create(session, name="test", scopes=list(keys.SCOPES), project=None)
        instance.headers = {"Authorization": f"Bearer {text}"}
        instance.up("serve", before=hosts["api"].command())
        for role in ("sweeper", "first", "second"):
            environment = settings[role].as_environment()
            instance.run(PROCESSES[role], env=environment, before=hosts[role].command())
        for model in MODELS:
            instance.create(model)
        yield Cluster(instance, settings["sweeper"], hosts)


def learn_and_forget_everywhere(instance: Instance, labels: tuple[str, str]) -> list[str]:
    """Submit a learn, of the first model a long one, and a forget for every model; return the jobs' ids."""
    steps = {MODELS[0]: STEPS}
    learned = [
        instance.submit("learn", model, labels=[*labels], steps=steps.get(model, 5)) for model in MODELS
    ]
    return learned + [instance.submit("forget", model, labels=[labels[0]]) for model in MODELS]


def all_end_well(cluster: Cluster, jobs: list[str]) -> list[JobRow]:
    """Wait until every job has succeeded and every receipt is signed; check all rules. Returns the jobs."""
    instance = cluster.instance
    ended = [instance.succeeded(job_id, 240) for job_id in jobs]
    for job in ended:
        if job.operation == "forget":
            wait_for("the receipt is signed", partial(has_receipt, instance, job.id))
    invariants.check(cluster.signer, instance.database, ended=True)
    return ended


@pytest.mark.parametrize("cut", [Host.cut, Host.reset_and_cut], ids=["silently", "with a reset"])
def test_a_worker_that_is_cut_off_loses_its_job_to_the_other_and_publishes_nothing(
    cluster: Cluster, cut: Callable[[Host], None]
) -> None:
    instance = cluster.instance
    labels = ("0", "1") if cut is Host.cut else ("2", "3")
    jobs = learn_and_forget_everywhere(instance, labels)
    pid = instance.worker_in_training(jobs[0])
    host = cluster.host_of(pid)
    cut(host)
    taken_over = instance.worker_in_training(jobs[0], attempt=2)
    assert not host.runs(taken_over)
    host.mend()
    assert all_end_well(cluster, jobs)[0].attempt == 2


@pytest.mark.parametrize("name", ["api", "store", "database", "broker"])
def test_a_server_that_is_cut_off_loses_no_job(cluster: Cluster, name: str) -> None:
    """The other hosts do what they can meanwhile, and go on when it is back."""
    instance = cluster.instance
    labels = {"api": ("4", "5"), "store": ("6", "7"), "database": ("8", "9"), "broker": ("0", "2")}[name]
    jobs = learn_and_forget_everywhere(instance, labels)
    instance.worker_in_training(jobs[0])
    host = cluster.hosts[name]
    host.cut()
    before = count_done(instance) if name in ("api", "broker") else 0
    if name in ("api", "broker"):
        wait_for("jobs end without it", lambda: count_done(instance) > before)
    elif name == "store":
        wait_for("a worker gives its job back", lambda: any(instance.job(one).store_failures for one in jobs))
    else:
        wait_for("the database is missed", lambda: readiness(instance) == 503)
    host.mend()
    assert {job.attempt for job in all_end_well(cluster, jobs)} == {1}


def has_receipt(instance: Instance, job_id: str) -> bool:
    address = f"{instance.url}/v1/jobs/{job_id}/receipt"
    return httpx2.get(address, headers=instance.headers, timeout=30).status_code == 200


def count_done(instance: Instance) -> int:
    with instance.database.reading() as session:
        return len(session.scalars(select(JobRow).where(JobRow.finished_at.is_not(None))).all())


def readiness(instance: Instance) -> int:
    return httpx2.get(f"{instance.url}/readyz", timeout=30).status_code
