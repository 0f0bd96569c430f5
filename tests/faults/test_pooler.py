"""The service behind PgBouncer in transaction mode, where every transaction may get another connection."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from service.settings import Settings
from tests.faults.servers import own_pgbouncer, own_postgresql, postgresql_url
from tests.instance import instance_of

REQUESTS, CLIENTS = 180, 30


@pytest.mark.parametrize("connections", [3])
def test_every_request_behind_a_pooler_is_answered_and_jobs_run(tmp_path: Path, connections: int) -> None:
    with own_postgresql() as postgresql, own_pgbouncer(postgresql, connections=connections) as pooler:
        url = postgresql_url(postgresql, port=pooler.port)
        deployment = Settings(home=tmp_path / "home", database_url=url, port=0)
        with instance_of(deployment, tmp_path) as instance:
            instance.up()
            instance.create()
            job_id = instance.submit("learn", labels=["0"], steps=20)
            paths = ["/v1/models/m", "/v1/jobs", f"/v1/jobs/{job_id}", "/v1/catalog", "/v1/models"]
            limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
            client = httpx2.Client(base_url=instance.url, timeout=60, limits=limits)
            with client as http, ThreadPoolExecutor(CLIENTS) as pool:
                wanted = [paths[number % len(paths)] for number in range(REQUESTS)]
                answers = list(pool.map(http.get, wanted))
            assert {answer.status_code for answer in answers} == {200}
            instance.succeeded(job_id)
            assert "prepared statement" not in instance.log.read_text()
