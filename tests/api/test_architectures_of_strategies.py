"""A strategy that works on networks of some architectures only is refused for models of the others."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.registry import jobs
from service.requests.catalog import Catalog, read_catalog
from service.settings import Settings
from tests.api.serving import Served, serving


def catalog() -> Catalog:
    """The catalog of the release, with a resize strategy for hypernetworks only."""
    release = read_catalog()
    strategies = [
        one.model_copy(update={"architectures": ("hyper",)}) if one.name == "taylor_prune" else one
        for one in release.strategies
    ]
    return release.model_copy(update={"strategies": strategies})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(Settings(home=tmp_path_factory.mktemp("home")), offered=catalog()) as served:
        served.model("mlp", network={"architecture": "mlp"})
        served.done("mlp", "learn", labels=["1", "2", "3"])
        yield served


@pytest.mark.parametrize(
    ("operation", "body", "pointer"),
    [
        ("learn", {"labels": ["7"], "strategy": "hypernetwork"}, "/strategy"),
        ("forget", {"labels": ["1"], "strategy": "noise_alignment"}, "/strategy"),
        ("resize", {"policy": "prune", "strategy": "taylor_prune"}, "/strategy"),
        (
            "forget",
            {"labels": ["1"], "resize": {"policy": "prune", "strategy": "taylor_prune"}},
            "/resize/strategy",
        ),
    ],
    ids=["learn", "forget", "resize", "following resize"],
)
def test_a_strategy_for_hypernetworks_is_refused_for_another_model(
    served: Served, operation: str, body: dict[str, Any], pointer: str
) -> None:
    answer = served.http.post(f"/v1/models/mlp/{operation}", json=body)
    [error] = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (422, "strategy_not_for_architecture")
    assert error["pointer"] == pointer


def test_a_job_whose_strategy_no_more_works_on_the_model_is_not_repeated(served: Served) -> None:
    job = served.submit("mlp", "forget", labels=["1"])["id"]
    served.worker.fail(served.worker.claim(job))
    with served.worker.database.transaction() as session:  # as if an earlier release had accepted it
        row = jobs.find(session, job)
        row.strategy, row.params = "noise_alignment", {}
    refused = served.http.post(f"/v1/jobs/{job}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_repeatable")
    assert "noise_alignment" in refused.json()["detail"]
