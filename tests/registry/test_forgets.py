"""Forgetting again: what asks for more than was done is carried out or refused, and nothing is dropped."""

from typing import Any

import pytest

from service.registry import jobs, labels
from service.registry.acceptance import freeze_criteria
from service.registry.errors import ForgetUnfinished, ForgottenWithLess, NotExact
from service.registry.job_specs import Demands
from service.registry.jobs import Submitted
from service.registry.tables import JobRow
from tests.job_specs import job_spec
from tests.registries import Registry

EXACT = {"strategy": "retrain", "guarantee": "exact", "demands": Demands(guarantee="exact")}
DROP = {"strategy": "drop", "guarantee": "exact", "drops_only": True}
STRICT = {"forgotten_accuracy_max": 0.01}


def forget(registry: Registry, *names: str, **fields: Any) -> Submitted:
    spec = job_spec("forget", *names, **({"strategy": "surrogate"} | fields))
    with registry.database.transaction() as session:
        model = jobs.lock_model(session, registry.model)
        return jobs.submit(session, model, spec, labels.projected_statuses(session, model), max_attempts=3)


def forgotten(registry: Registry, *names: str, **fields: Any) -> JobRow:
    """Learn 1 to 5, forget some of them, and return the job."""
    registry.publish_job("learn", "1", "2", "3", "4", "5")
    job = forget(registry, *names, **fields).job
    registry.publish(registry.claim(job))
    return registry.job(job)


@pytest.mark.parametrize(
    "repeated",
    [
        {},
        {"demands": Demands(strategy="surrogate")},
        {"demands": Demands(guarantee="approximate")},
        {"demands": Demands(has_params=True), "params": {"steps": 5}},
        {"acceptance": {"forgotten_accuracy_max": 0.05}},
        {"acceptance": {"forgotten_accuracy_max": 0.2, "retained_accuracy_min": 0.5}},
        {"seed": 7},
    ],
)
def test_a_request_for_no_more_than_was_done_gets_the_old_job(
    registry: Registry, repeated: dict[str, Any]
) -> None:
    held_to = {"forgotten_accuracy_max": 0.05, "retained_accuracy_min": 0.9}
    done = forgotten(registry, "1", acceptance=held_to, params={"steps": 5})
    submitted = forget(registry, "1", **({"params": {"steps": 5}} | repeated))
    assert (submitted.job.id, submitted.already_forgotten) == (done.id, {"1": done.id})


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ({"demands": Demands(guarantee="exact")}, "approximate, not exact"),
        ({"acceptance": STRICT}, "not held to forgotten_accuracy_max 0.01, but to 0.05"),
        ({"acceptance": {"worst_retained_accuracy_min": 0.5}}, "worst_retained_accuracy_min 0.5"),
        ({"acceptance": {"retained_accuracy_min": 0.95}}, "retained_accuracy_min 0.95, but to 0.9"),
        ({"strategy": "distill", "demands": Demands(strategy="distill")}, "was surrogate, not distill"),
        ({"params": {"steps": 9}, "demands": Demands(has_params=True)}, "its params were others"),
    ],
)
def test_a_request_for_more_is_refused_where_its_strategy_cannot_give_it(
    registry: Registry, more: dict[str, Any], missing: str
) -> None:
    held_to = {"forgotten_accuracy_max": 0.05, "retained_accuracy_min": 0.9}
    done = forgotten(registry, "1", acceptance=held_to)
    with pytest.raises(ForgottenWithLess, match=missing) as refused:
        forget(registry, "1", "2", **more)
    assert refused.value.job_id == done.id


@pytest.mark.parametrize("more", [{}, {"acceptance": STRICT}])
def test_an_exact_request_forgets_an_approximately_forgotten_label_again(
    registry: Registry, more: dict[str, Any]
) -> None:
    done = forgotten(registry, "1", acceptance={"forgotten_accuracy_max": 0.05})
    again = forget(registry, "1", **EXACT, **more).job
    assert (again.id != done.id, again.labels, again.guarantee) == (True, ["1"], "exact")
    bounds = again.acceptance["relapse_accuracy_max"]
    assert bounds == {"1": 0.05}, "the earlier bound still holds"
    version = registry.publish(registry.claim(again))
    assert "1" not in version.labels
    assert registry.statuses()["1"] == "forgotten"
    with registry.database.reading() as session:
        row = labels.find_all(session, registry.model.id)["1"]
        assert (row.forgotten_by, row.forgotten_version) == (again.id, version.number)
        later = freeze_criteria(session, registry.model, {})
    assert later["relapse_accuracy_max"] == {
        "1": min(0.05, more.get("acceptance", {}).get("forgotten_accuracy_max", 1))
    }


def test_the_same_exact_request_again_gets_its_job(registry: Registry) -> None:
    forgotten(registry, "1")
    again = forget(registry, "1", **EXACT).job
    assert forget(registry, "1", **EXACT).job.id == again.id, "while it is queued"
    registry.publish(registry.claim(again))
    for request in (EXACT, {}, {"demands": Demands(strategy="surrogate")}):
        assert forget(registry, "1", **request).job.id == again.id


def test_a_mixed_request_says_what_it_leaves_out_and_by_which_job_that_was_forgotten(
    registry: Registry,
) -> None:
    done = forgotten(registry, "1")
    second = forget(registry, "2").job
    answered = forget(registry, "2", "1")
    assert (answered.job.id, answered.already_forgotten) == (second.id, {"1": done.id, "2": second.id})
    registry.publish(registry.claim(second))
    mixed = forget(registry, "1", "2", "3")
    assert (mixed.job.labels, mixed.already_forgotten) == (["3"], {"1": done.id, "2": second.id})
    assert registry.job(mixed.job).already_forgotten == mixed.already_forgotten


def test_no_label_is_left_out_because_of_a_job_that_may_still_fail(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2", "3")
    first = forget(registry, "2").job
    with pytest.raises(ForgetUnfinished, match="'2'") as refused:
        forget(registry, "2", "1")
    assert refused.value.job_id == first.id
    second = forget(registry, "1").job
    with pytest.raises(ForgetUnfinished) as refused:
        forget(registry, "1", "2")  # neither job can answer for the other
    assert refused.value.job_id == first.id
    assert forget(registry, "1").job.id == second.id
    with registry.database.transaction() as session:
        jobs.cancel(session, first.id)
    third = forget(registry, "2", "3")
    assert (third.job.labels, third.already_forgotten) == (["2", "3"], {})


def test_a_label_that_is_forgotten_again_is_not_left_out_while_that_may_still_fail(
    registry: Registry,
) -> None:
    done = forgotten(registry, "1")
    learning = registry.submit("learn", "1")
    again = forget(registry, "1").job
    with pytest.raises(ForgetUnfinished) as refused:
        forget(registry, "1", "2")
    assert refused.value.job_id == again.id != done.id
    with registry.database.transaction() as session:
        jobs.cancel(session, again.id)
    assert forget(registry, "1", "2").job.labels == ["1", "2"], "it is about to be learned"
    assert registry.job(learning).state == "queued"


def test_an_exact_mixed_request_leaves_out_only_what_is_exactly_forgotten(registry: Registry) -> None:
    forgotten(registry, "1")
    exact = forget(registry, "2", **EXACT).job
    registry.publish(registry.claim(exact))
    mixed = forget(registry, "1", "2", "3", **EXACT)
    assert (mixed.job.labels, mixed.already_forgotten) == (["1", "3"], {"2": exact.id})


def test_dropping_a_network_is_exact_only_if_the_main_network_never_knew_the_label(
    registry: Registry,
) -> None:
    registry.publish_job("learn", "1", "2")
    registry.publish(registry.claim(registry.submit("learn", "3", retention="temporary")))
    assert forget(registry, "3", **DROP).job.guarantee == "exact"
    forgetting = forget(registry, "1").job
    registry.submit("learn", "1", retention="temporary")
    assert forgetting.guarantee == "approximate"
    with pytest.raises(NotExact):
        forget(registry, "1", **DROP, demands=Demands(guarantee="exact"))
    assert forget(registry, "1", **DROP).job.guarantee == "approximate"
