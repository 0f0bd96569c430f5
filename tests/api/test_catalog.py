"""The catalog completes the params of a request, or points at every rule they break."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.requests.catalog import ArchitectureEntry, StrategyEntry, complete, read_catalog
from service.requests.violations import InvalidRequest
from tests.api.offered import CATALOG, LearnParams

REPLAY_EWC = CATALOG.strategy("learn", "replay_ewc")

DEFAULTS: dict[str, Any] = {
    "learning_rate": 0.003,
    "steps": 100,
    "batch_size": 256,
    "clip": None,
    "schedule": {"warm_up": 0.2, "shape": "one_cycle"},
    "widths": [512, 256],
}


def test_every_default_is_filled_in() -> None:
    assert REPLAY_EWC.complete({}) == DEFAULTS


def test_defaults_fill_in_beside_what_was_sent_at_every_depth() -> None:
    sent = {"steps": 7, "schedule": {"shape": "constant"}}
    found = REPLAY_EWC.complete(sent)
    assert found == DEFAULTS | {"steps": 7, "schedule": {"warm_up": 0.2, "shape": "constant"}}
    assert sent == {"steps": 7, "schedule": {"shape": "constant"}}


def test_checked_params_are_what_the_strategys_own_model_would_make_of_them() -> None:
    sent = {"learning_rate": 1, "schedule": {"shape": "constant", "warm_up": 0.3}, "clip": 5.0}
    found = REPLAY_EWC.complete(sent)
    assert LearnParams.model_validate(found) == LearnParams.model_validate(sent)
    assert found == LearnParams.model_validate(sent).model_dump()


def test_two_requests_do_not_share_their_defaults() -> None:
    REPLAY_EWC.complete({})["widths"].append(1)
    assert REPLAY_EWC.complete({}) == DEFAULTS


@pytest.mark.parametrize(
    ("params", "broken"),
    [
        ({"learning_rate": 0}, [("/params/learning_rate", "out_of_range")]),
        ({"learning_rate": -1}, [("/params/learning_rate", "out_of_range")]),
        ({"learning_rate": 1e9}, [("/params/learning_rate", "out_of_range")]),
        ({"learning_rate": "0.1"}, [("/params/learning_rate", "wrong_type")]),
        ({"learning_rate": True}, [("/params/learning_rate", "wrong_type")]),
        ({"steps": 1.5}, [("/params/steps", "wrong_type")]),
        ({"clip": 0}, [("/params/clip", "out_of_range")]),
        ({"clip": "none"}, [("/params/clip", "wrong_type")]),
        ({"schedule": 3}, [("/params/schedule", "wrong_type")]),
        ({"schedule": {"warm_up": 2}}, [("/params/schedule/warm_up", "out_of_range")]),
        ({"schedule": {"shape": "zigzag"}}, [("/params/schedule/shape", "unknown_value")]),
        ({"schedule": {"warm": 2}}, [("/params/schedule/warm", "unknown_field")]),
        ({"widths": []}, [("/params/widths", "out_of_range")]),
        ({"widths": [512, "many"]}, [("/params/widths/1", "wrong_type")]),
        ({"epoch": 3}, [("/params/epoch", "unknown_field")]),
        ({"a/b~c": 3}, [("/params/a~1b~0c", "unknown_field")]),
        ({"epoch": 3, "lr": 1}, [("/params/epoch", "unknown_field"), ("/params/lr", "unknown_field")]),
        ({"steps": 0, "epoch": 3}, [("/params/epoch", "unknown_field"), ("/params/steps", "out_of_range")]),
    ],
)
def test_every_broken_rule_is_pointed_at(params: dict[str, Any], broken: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        REPLAY_EWC.complete(params)
    assert sorted((v.pointer, v.code) for v in refused.value.violations) == broken
    assert all(violation.detail for violation in refused.value.violations)


def test_a_missing_param_that_is_required_is_pointed_at() -> None:
    schema = {"type": "object", "properties": {"k": {"type": "integer"}}, "required": ["k"]}
    with pytest.raises(InvalidRequest) as refused:
        complete(schema, {}, pointer="/params")
    assert [(v.pointer, v.code) for v in refused.value.violations] == [("/params/k", "required")]


def test_an_operation_has_a_default_strategy_and_a_policy_has_its_own() -> None:
    assert CATALOG.strategy("learn").name == "replay_ewc"
    assert CATALOG.strategy("learn", "replay").name == "replay"
    assert CATALOG.strategy("resize", policy="prune").name == "prune_units"
    assert CATALOG.strategy("resize", policy="expand").name == "expand_units"
    assert CATALOG.strategy("resize", policy="search").name == "search"
    assert CATALOG.strategy("resize", "search", policy="expand").name == "search", "as before it was a policy"
    assert CATALOG.strategy("resize", policy="expand").name == "expand_units"


@pytest.mark.parametrize(
    ("ask", "pointer", "code"),
    [
        (lambda: CATALOG.strategy("learn", "surrogate"), "/strategy", "strategy_not_found"),
        (lambda: CATALOG.strategy("resize", policy="halve"), "/policy", "policy_not_found"),
        (
            lambda: CATALOG.strategy("resize", "expand_units", policy="prune"),
            "/strategy",
            "strategy_not_found",
        ),
        (lambda: CATALOG.dataset("mnits"), "/dataset", "dataset_not_found"),
        (
            lambda: CATALOG.complete_network({"architecture": "gan"}),
            "/network/architecture",
            "architecture_not_found",
        ),
        (
            lambda: CATALOG.complete_network({"architecture": ["cvae"]}),
            "/network/architecture",
            "architecture_not_found",
        ),
        (lambda: CATALOG.complete_network({"latent": 0}), "/network/latent", "out_of_range"),
    ],
)
def test_an_unknown_name_is_refused(ask: Any, pointer: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask()
    (violation,) = refused.value.violations
    assert (violation.pointer, violation.code) == (pointer, code)


def test_a_network_is_completed_with_its_architecture() -> None:
    assert CATALOG.complete_network({}) == {"architecture": "cvae", "latent": 8, "widths": [512, 256]}
    assert CATALOG.complete_network({"latent": 2})["latent"] == 2


def test_every_number_a_client_may_send_has_bounds() -> None:
    """An unbounded width or step count is a job that never ends, or one that takes the machine with it."""
    catalog = read_catalog()
    entries: list[StrategyEntry | ArchitectureEntry] = [*catalog.strategies, *catalog.architectures]
    unbounded = [(entry.name, *place) for entry in entries for place in _unbounded(entry.params)]
    assert unbounded == []


def _unbounded(schema: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(schema, dict):
        bounds = [
            {"minimum", "exclusiveMinimum"} & set(schema),
            {"maximum", "exclusiveMaximum"} & set(schema),
        ]
        if schema.get("type") in ("integer", "number") and not all(bounds):
            yield place
        if schema.get("type") == "array" and "maxItems" not in schema:
            yield place
        for name, inner in schema.items():
            yield from _unbounded(inner, (*place, name))
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _unbounded(inner, (*place, str(index)))
