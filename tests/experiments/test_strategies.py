"""The page of strategies leaves none out and is up to date; controls are what they say, and run."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.controls import CONTROLS, VARIANTS, Control, Given, Key
from experiments.strategies import architecture_of, kept_of, run_control
from experiments.strategies_page import gains, page
from experiments.training_setup import LEARN_STRATEGIES
from tests.learning.tiny import NETWORKS, OF_TEMPORARY, brief, context, examples, labels, run, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.strategy import Strategy, all_strategies, find

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
RESULTS = json.loads((PAGE.parent / "results" / "strategies.json").read_text())
BASELINES = {("learn", "finetune")}
"""Strategies without an idea of their own: others are compared with them."""
EVERY_CONTROL = [(key, control) for key, controls in CONTROLS.items() for control in controls]


@pytest.fixture(scope="module")
def networks_with_frame() -> dict[str, Checkpoint]:
    """Tiny networks of each architecture that have learned rows, columns and a temporary label, frame."""
    isolated = find("learn", "isolated")
    found = {}
    for architecture, name in LEARN_STRATEGIES.items():
        start, learn = blank(NETWORKS[architecture], seed=0, pixels=64), find("learn", name)
        learned = run("learn", name, start, examples("rows", "columns"), **brief(learn))
        found[architecture] = run("learn", "isolated", learned, examples("frame"), **brief(isolated))
    return found


@pytest.mark.parametrize("one", all_strategies(), ids=lambda one: f"{one.operation}-{one.name}")
def test_the_page_has_measured_figures_controls_and_a_paragraph_for_each_strategy(one: Strategy) -> None:
    text, key = PAGE.read_text(), (one.operation, one.name)
    assert f"## {one.operation}: `{one.name}`\n\n{one.summary}" in text
    assert f"| {one.operation} | `{one.name}`" in text
    assert (key in CONTROLS) is (key not in BASELINES)
    for control in CONTROLS.get(key, ()):
        assert f"| *{control.off}* | " in text


def test_the_page_is_up_to_date_with_the_code() -> None:
    """If it is not, a docstring, a column or a strategy has changed since: run `make pages`."""
    assert page(RESULTS) == PAGE.read_text()


def test_a_strategy_that_was_not_measured_is_said_not_to_be() -> None:
    without = {**RESULTS, "rows": [row for row in RESULTS["rows"] if row["strategy"] != "surrogate"]}
    (line,) = (line for line in page(without).splitlines() if line.startswith("| forget | `surrogate`"))
    assert line.endswith("| - | - | - | - | - | - | not measured yet |")


@pytest.mark.parametrize(("key", "control"), EVERY_CONTROL, ids=lambda one: str(getattr(one, "off", one)))
def test_params_of_a_control_change_the_strategy_and_are_valid(key: Key, control: Control) -> None:
    assert (control.params is None) is not (control.run is None)
    params = find(*key).Params
    variant = VARIANTS[key][control.variant] if control.variant else {}
    if control.params is not None:
        assert params(**control.params) != params(**variant)


@pytest.mark.parametrize(("key", "control"), EVERY_CONTROL, ids=lambda one: str(getattr(one, "off", one)))
def test_a_control_runs_in_place_of_its_strategy(
    key: Key, control: Control, networks_with_frame: dict[str, Checkpoint]
) -> None:
    operation, name = key
    with_frame = networks_with_frame[architecture_of(find(*key))]
    start = with_frame if name in OF_TEMPORARY else replace(with_frame, isolated=())
    request = labels("frame") if name in OF_TEMPORARY else examples("frame")
    if name not in OF_TEMPORARY and operation != "learn":
        request = labels("rows") if operation == "forget" else labels()
    train = {label: stripes(label) for label in ("rows", "columns", "frame")}
    dataset: Any = SimpleNamespace(name="stripes", train=train)
    given = Given(start, request, dataset, context(), result=start, step_divisor=100)
    few_steps = {**(control.params or {}), **brief(find(*key))}
    quick = replace(control, params=few_steps) if control.params is not None else control
    after = run_control(key, quick, given)
    assert all(tensor.isfinite().all() for tensor in after.weights.values())


def row(retained: float, forgotten: float | None, seed: int = 0, parameters: int = 1000) -> dict[str, Any]:
    measured = {"retained": retained, "coverage": 0.8, "new": None, "forgotten": forgotten}
    return {"seed": seed, **measured, "parameters": parameters}


def test_the_gain_is_paired_by_seed_and_less_of_the_forgotten_is_better() -> None:
    strategy, control = [row(0.99, 0.01), row(0.97, 0.03)], [row(0.97, 0.51), row(0.96, 0.13)]
    assert gains(strategy, control) == "retained +1.5 (1.0 to 2.0), forgotten +30.0 (10.0 to 50.0)"


def test_a_difference_that_is_small_or_has_both_signs_is_no_gain() -> None:
    assert gains([row(0.991, 0.1)], [row(0.99, 0.1)]) == "nothing measurable"
    assert gains([row(0.9, 0.1), row(0.99, 0.1)], [row(0.8, 0.1), row(0.995, 0.1)]) == "nothing measurable"


def test_what_cannot_be_drawn_any_more_is_said_in_words() -> None:
    assert gains([row(0.99, None)], [row(0.99, 0.98)]) == "the labels cannot be drawn"


def test_a_network_that_is_smaller_at_the_same_quality_is_a_gain() -> None:
    smaller, slightly = row(0.99, 0.1, parameters=890), row(0.99, 0.1, parameters=990)
    assert gains([smaller], [row(0.99, 0.1)]) == "parameters -11 %"
    assert gains([slightly], [row(0.99, 0.1)]) == "nothing measurable"


def test_a_run_of_some_strategies_keeps_the_rows_of_the_others_and_says_how_they_were_measured() -> None:
    old = {"operation": "learn", "strategy": "rec", "seed": 0}, {"operation": "learn", "strategy": "den"}
    provenance = {"command": "python -m first", "code": "a", "seeds": 3, "minutes": 9.0}
    new = [{"operation": "learn", "strategy": "rec", "seed": 1}]
    found = kept_of({**provenance, "rows": list(old)}, new)
    assert found == {"rows": [old[1], *new], "earlier": [provenance]}
    text = page({**RESULTS, "earlier": [provenance]})
    assert f"`python -m first`, and then `{RESULTS['command']}`." in text
