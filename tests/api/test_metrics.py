"""GET /metrics shows the state of the queue and what this process did, in a format that Prometheus parses."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.registry import statistics
from tests.api.serving import Served
from tests.registries import Registry


def read(served: Served) -> dict[tuple[str, str], float]:
    """Return {(name of a sample, the values of its labels): value}."""
    response = served.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_jobs_drawings_and_decoder_uses_are_counted(served: Served, name: str) -> None:
    before = read(served)
    assert before["palimpsest_database_up", ""] == 1
    served.model(name)
    served.done(name, "learn", labels=["1"])
    assert served.http.get(f"/v1/models/{name}/versions/1/images/1/0.png").status_code == 200
    served.sweep()
    after = read(served)

    def growth(sample: str, labels: str = "") -> float:
        return after[sample, labels] - before.get((sample, labels), 0)

    assert growth("palimpsest_jobs_ended_total", "learn,succeeded") == 1
    assert growth("palimpsest_job_run_seconds_count", "learn") == 1
    assert growth("palimpsest_draw_seconds_count") == 1
    assert growth("palimpsest_decoder_uses_total", "store") == 1
    image = "/v1/models/{model}/versions/{number}/images/{label}/{seed}.png"
    assert growth("palimpsest_http_request_seconds_count", f"GET,{image},200") == 1
    assert after["palimpsest_disk_free_bytes", ""] > 0


def test_polls_and_unknown_paths_are_counted_under_patterns(served: Served, name: str) -> None:
    served.model(name)
    job_id = served.submit(name, "learn", labels=["1"])["id"]
    before = read(served)
    for _ in range(3):
        served.http.get(f"/v1/jobs/{job_id}")
    served.http.get(f"/{name}")
    after = read(served)
    for labels, expected in (("GET,/v1/jobs/{job},200", 3), ("GET,none,404", 1)):
        key = ("palimpsest_http_request_seconds_count", labels)
        assert after[key] - before.get(key, 0) == expected


def test_the_figures_of_the_queue_are_those_of_the_rows(registry: Registry) -> None:
    registry.claim(registry.submit("learn", "1"))
    registry.submit("learn", "2")
    with registry.database.reading() as session:
        found = statistics.read(session)
    assert found.jobs == {"queued": 1, "running": 1, "verifying": 0}
    assert found.queue_age_seconds == 0  # the queued job waits for the other one of its model
    assert (found.models, found.versions) == (1, 0)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_figures_are_reused_for_a_while(registry: Registry, seconds: float) -> None:
    recent = statistics.RecentStatistics(registry.database, seconds=seconds)
    assert recent.read().jobs["queued"] == 0
    registry.submit("learn", "1")
    assert recent.read().jobs["queued"] == (1 if seconds == 0 else 0)
    if seconds == 0:
        assert 0 <= recent.read().queue_age_seconds < 60
