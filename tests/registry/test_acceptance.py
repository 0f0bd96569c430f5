"""What a candidate must reach is fixed when its job is asked for; promises about a label outlive theirs."""

from typing import Any

import pytest

from service.registry import models
from tests.registries import Registry


def held_to(registry: Registry, bounds: dict[str, Any], **acceptance: float) -> Registry:
    """The same registry with a model of those criteria."""
    with registry.database.transaction() as session:
        model = models.create(
            session, name="strict", dataset="digits", network={}, seed=1, acceptance=acceptance | bounds
        )
    return Registry(registry.database, model)


def test_a_request_without_criteria_has_the_models(registry: Registry) -> None:
    strict = held_to(registry, {}, retained_accuracy_min=0.9, forgotten_accuracy_max=0.05)
    assert strict.submit("learn", "1").acceptance == {
        "retained_accuracy_min": 0.9,
        "forgotten_accuracy_max": 0.05,
    }
    assert registry.submit("learn", "1").acceptance == {}


def test_a_criterion_in_the_request_takes_the_place_of_the_models(registry: Registry) -> None:
    strict = held_to(registry, {}, retained_accuracy_min=0.9, forgotten_accuracy_max=0.05)
    job = strict.submit("learn", "1", acceptance={"retained_accuracy_min": 0.8})
    assert job.acceptance == {"retained_accuracy_min": 0.8, "forgotten_accuracy_max": 0.05}


def test_a_job_that_only_measures_is_held_to_nothing(registry: Registry) -> None:
    strict = held_to(registry, {}, retained_accuracy_min=0.9)
    strict.done("learn", "1")
    assert strict.submit("evaluate").acceptance == {}


def test_a_promise_about_a_forgotten_label_holds_for_every_later_job(registry: Registry) -> None:
    """Also for one that is asked for before the forgetting has run."""
    registry.done("learn", "1", "2", "3")
    forgetting = registry.submit("forget", "1", acceptance={"forgotten_accuracy_max": 0.02})
    queued = registry.submit("learn", "4")
    registry.publish(registry.claimed(forgetting))
    later = registry.submit("resize", acceptance={"forgotten_accuracy_max": 0.5})
    assert queued.acceptance == {"relapse_accuracy_max": {"1": 0.02}}
    assert later.acceptance == {"forgotten_accuracy_max": 0.5, "relapse_accuracy_max": {"1": 0.02}}


PROMISED = {"relapse_accuracy_max": {"1": 0.02}}


def test_learning_a_label_again_ends_the_promise_once_it_is_learned(registry: Registry) -> None:
    """Not before: what is queued behind the learn runs with the label forgotten, should that one fail."""
    registry.done("learn", "1", "2")
    forgetting = registry.submit("forget", "1", acceptance={"forgotten_accuracy_max": 0.02})
    registry.publish(registry.claimed(forgetting))
    learning = registry.submit("learn", "1")
    assert registry.submit("resize").acceptance == PROMISED
    registry.publish(registry.claimed(learning))
    assert registry.submit("resize").acceptance == {}


@pytest.mark.parametrize(
    ("asked", "bound"),
    [({}, 0.02), ({"forgotten_accuracy_max": 0.5}, 0.02), ({"forgotten_accuracy_max": 0.01}, 0.01)],
)
def test_a_queued_forget_loosens_no_promise_for_the_learn_before_it_may_fail(
    registry: Registry, asked: dict[str, float], bound: float
) -> None:
    registry.done("learn", "1", "2")
    forgetting = registry.submit("forget", "1", acceptance={"forgotten_accuracy_max": 0.02})
    registry.publish(registry.claimed(forgetting))
    registry.submit("learn", "1")
    again = registry.submit("forget", "1", acceptance=asked)
    assert again.acceptance == asked, "it runs only once the label was learned again"
    assert registry.submit("resize").acceptance == {"relapse_accuracy_max": {"1": bound}}
