"""Criteria are frozen when a job is submitted, together with the bounds of earlier forgets."""

from typing import Any

import pytest

from service.registry import models
from tests.registries import Registry


def with_criteria(registry: Registry, bounds: dict[str, Any], **acceptance: float) -> Registry:
    """Return the registry with another model, which has these criteria."""
    with registry.database.transaction() as session:
        model = models.create(
            session, name="strict", dataset="digits", network={}, seed=1, acceptance=acceptance | bounds
        )
    return Registry(registry.database, model)


def test_a_job_without_criteria_in_its_request_has_those_of_the_model(registry: Registry) -> None:
    strict = with_criteria(registry, {}, retained_accuracy_min=0.9, forgotten_accuracy_max=0.05)
    assert strict.submit("learn", "1").acceptance == {
        "retained_accuracy_min": 0.9,
        "forgotten_accuracy_max": 0.05,
    }
    assert registry.submit("learn", "1").acceptance == {}


def test_a_criterion_in_the_request_overrides_that_of_the_model(registry: Registry) -> None:
    strict = with_criteria(registry, {}, retained_accuracy_min=0.9, forgotten_accuracy_max=0.05)
    job = strict.submit("learn", "1", acceptance={"retained_accuracy_min": 0.8})
    assert job.acceptance == {"retained_accuracy_min": 0.8, "forgotten_accuracy_max": 0.05}


def test_an_evaluate_job_has_no_criteria(registry: Registry) -> None:
    strict = with_criteria(registry, {}, retained_accuracy_min=0.9)
    strict.publish_job("learn", "1")
    assert strict.submit("evaluate").acceptance == {}


def test_the_bound_of_a_forget_applies_to_every_later_job(registry: Registry) -> None:
    """Also to a job that is submitted before the forget has run."""
    registry.publish_job("learn", "1", "2", "3")
    forgetting = registry.submit("forget", "1", acceptance={"forgotten_accuracy_max": 0.02})
    queued = registry.submit("learn", "4")
    registry.publish(registry.claim(forgetting))
    later = registry.submit("resize", acceptance={"forgotten_accuracy_max": 0.5})
    assert queued.acceptance == {"relapse_accuracy_max": {"1": 0.02}}
    assert later.acceptance == {"forgotten_accuracy_max": 0.5, "relapse_accuracy_max": {"1": 0.02}}


BOUND = {"relapse_accuracy_max": {"1": 0.02}}


def test_a_bound_ends_once_the_label_is_learned_again(registry: Registry) -> None:
    """Not before: a job queued behind the learn runs with the label forgotten, if the learn fails."""
    registry.publish_job("learn", "1", "2")
    forgetting = registry.submit("forget", "1", acceptance={"forgotten_accuracy_max": 0.02})
    registry.publish(registry.claim(forgetting))
    learning = registry.submit("learn", "1")
    assert registry.submit("resize").acceptance == BOUND
    registry.publish(registry.claim(learning))
    assert registry.submit("resize").acceptance == {}


@pytest.mark.parametrize(
    ("requested", "bound"),
    [({}, 0.02), ({"forgotten_accuracy_max": 0.5}, 0.02), ({"forgotten_accuracy_max": 0.01}, 0.01)],
)
def test_a_queued_forget_does_not_loosen_a_bound_because_the_learn_before_it_may_fail(
    registry: Registry, requested: dict[str, float], bound: float
) -> None:
    registry.publish_job("learn", "1", "2")
    forgetting = registry.submit("forget", "1", acceptance={"forgotten_accuracy_max": 0.02})
    registry.publish(registry.claim(forgetting))
    registry.submit("learn", "1")
    again = registry.submit("forget", "1", acceptance=requested)
    assert again.acceptance == requested, "it runs only if the label was learned again"
    assert registry.submit("resize").acceptance == {"relapse_accuracy_max": {"1": bound}}
