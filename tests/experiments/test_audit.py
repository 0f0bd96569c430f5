"""The audit's rows and plan: who passes, who is flagged, what is made once."""

import json
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import save_file

from experiments import audit_parts, running
from experiments.audit import (
    ANOTHER,
    BRIEF,
    FULL,
    NOTHING,
    QUICK,
    STRATEGIES,
    Plan,
    finished,
    parser,
    parts_of,
    plan_of,
    summary,
)
from experiments.audit_parts import Effort, named, tensors_of
from experiments.audit_plots import plots
from experiments.audit_rows import p_of_another, row
from worker.learning.judging.audit_measurements import Traces
from worker.learning.networks import blank
from worker.learning.strategy import find

RISING = ((0, 0.0), (20, 0.5), (40, 1.0))
AUC = dict.fromkeys(("elbo", "reconstruction", "elbo_set", "reconstruction_set"), 0.5)
USUAL = Traces(20, 1000, 160, 256, RISING, RISING, AUC)


@pytest.fixture
def found(tmp_path):
    """What a part leaves: traces, the quality of the retained, and draws around `centre`."""
    made = 0

    def make(traces: Traces = USUAL, coverage: float = 0.8, centre: float = 0.0) -> dict:
        nonlocal made
        made += 1
        drawn = centre + torch.randn(60, 4, generator=torch.Generator().manual_seed(made))
        save_file({"embedded": drawn}, tmp_path / f"{made}.safetensors")
        tensors = str(tmp_path / f"{made}.safetensors")
        return {"traces": asdict(traces), "retained": 0.98, "coverage": coverage, "tensors": tensors}

    return make


def references(found) -> list[dict]:
    return [found(replace(USUAL, found=count)) for count in (150, 160, 170)]


def test_one_more_reference_passes(found):
    made = row({"3": found(), "8": found()}, {"3": references(found), "8": references(found)})
    assert (made["verdict"], made["missed"]) == ("met", [])
    assert abs(made["likeness"]) < 0.2


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"found": 240}, {"recovery_gap", "recovery_within_spread"}),
        ({"found": 20}, {"recovery_gap", "recovery_within_spread"}),
        ({"drawn": 900}, {"forgotten_accuracy"}),
        ({"curve": ((0, 0.0), (10, 1.0))}, {"relearn_ratio"}),
        ({"auc": AUC | {"elbo": 0.54}}, {"membership_auc_gap"}),
    ],
)
def test_what_is_far_from_the_references_is_flagged(found, changed, missed):
    left = {label: found(replace(USUAL, **changed)) for label in "38"}
    made = row(left, {"3": references(found), "8": references(found)})
    assert set(made["missed"]) == missed


def test_gaps_on_both_sides_do_not_cancel(found):
    """Far above on one label and far below on another: the mean gap is nothing, the spread says all."""
    left = {"3": found(replace(USUAL, found=250)), "8": found(replace(USUAL, found=70))}
    made = row(left, {"3": references(found), "8": references(found)})
    assert abs(made["recovery_gap"]) < 0.01
    assert made["missed"] == ["recovery_within_spread"]


NEVER = ((0, 0.0), (20, 0.1), (40, 0.2))


def test_a_label_that_a_reference_never_learnt_again_has_no_ratio_and_the_row_says_why(found):
    others = {"3": references(found), "8": [*references(found), found(replace(USUAL, curve=NEVER))]}
    made = row({"3": found(), "8": found()}, others)
    assert (made["verdict"], made["relearn_ratio"]) == ("undecided", pytest.approx(1))
    assert made["unmeasured"] == {"8": "a reference did not reach 90% in 40 steps: take more"}
    alone = row({"8": found()}, {"8": others["8"]})
    assert (alone["relearn_ratio"], alone["spread"]["relearn_ratio"]) == (None, None)
    assert "recovery_gap" in row({"8": found(replace(USUAL, found=20))}, {"8": others["8"]})["missed"]


def test_what_attacks_on_sets_tell_apart_is_told_and_held_to_nothing(found):
    told = AUC | {"elbo_set": 0.6, "reconstruction_set": 0.45}
    made = row({"3": found(replace(USUAL, auc=told))}, {"3": references(found)})
    assert (made["verdict"], made["membership_auc_gap"]) == ("met", 0)
    assert made["membership_set_gap"] == pytest.approx(0.1)


def test_the_attack_on_members_known_by_heart_is_held_to_its_bar(found):
    others = {"3": references(found)}
    assert row({"3": found()}, others)["control_auc"] is None
    made = row({"3": found() | {"control_auc": 0.97}}, others)
    assert (made["control_auc"], made["bars_missed"]) == (0.97, [])
    blind = row({"3": found() | {"control_auc": 0.55}}, others)
    assert (blind["verdict"], blind["missed"]) == ("missed", ["control_auc"])


def test_memory_is_the_mean_over_the_labels_that_have_one(found):
    slow = found(replace(USUAL, unseen_curve=NEVER))
    others = {"3": references(found), "8": references(found)}
    assert row({"3": found(), "8": slow}, others)["relearn_memory"] == pytest.approx(1)
    assert row({"8": slow}, others)["relearn_memory"] is None


def test_draws_of_another_kind_are_unlike_the_references(found):
    made = row({"3": found(centre=3.0)}, {"3": references(found)})
    assert made["likeness"] > 1


def test_the_p_value_of_one_more_reference_is_uniform():
    rng = torch.Generator().manual_seed(0)
    likely = []
    for _ in range(300):
        runs = torch.randn(5, 4, generator=rng).tolist()  # five labels, three references and one more
        gaps = [one[3] - sum(one[:3]) / 3 for one in runs]
        likely.append(p_of_another(gaps, [one[:3] for one in runs]))
    assert sum(p < 0.1 for p in likely) / 300 == pytest.approx(0.1, abs=0.05)
    assert sum(p < 0.5 for p in likely) / 300 == pytest.approx(0.5, abs=0.1)


def asked(*words: str) -> Namespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["audit", "--json", "figures.json", *words])
        return running.asked(parser(), FULL, BRIEF)


def test_the_full_form_takes_every_label_and_one_reference_more_than_it_compares_with():
    plan = plan_of(asked())
    parts = parts_of(plan)
    assert len(plan.labels) == 10
    assert len({part.seed for part in parts if part.strategy == ANOTHER}) == plan.references + 1
    assert sum(part.strategy == NOTHING for part in parts) == 10
    assert len(parts) == len(set(parts)) == len({part.network for part in parts})


def test_selective_amnesia_has_its_published_steps_on_one_label_and_fewer_on_all():
    plan = plan_of(asked())
    labels = Counter(part.strategy for part in parts_of(plan))
    assert (labels["selective_amnesia"], labels["selective_amnesia_shortened"]) == (1, 10)
    assert named("selective_amnesia") == ("selective_amnesia", {})
    steps = named("selective_amnesia_shortened")[1]["schedule"]
    assert steps["steps"] * steps["learning_rate"] == pytest.approx(1.0), "as far as the published ones"


def test_a_strategy_may_carry_params():
    assert named('surrogate:{"prune_share":0}') == ("surrogate", {"prune_share": 0})
    for strategy in STRATEGIES:
        name, params = named(strategy)
        find("forget", name).Params.model_validate(params)


def test_one_reference_has_nothing_to_be_measured_by(capsys):
    with pytest.raises(SystemExit):
        asked("--references", "1")
    assert "at least 2" in capsys.readouterr().err


def test_the_summary_has_a_row_for_each_strategy_the_reference_and_nothing(found):
    plan = plan_of(asked("--quick", "--labels", "3"))
    parts = {part: found() for part in parts_of(plan)}
    rows = summary(plan, parts)
    assert set(rows) == {*QUICK, ANOTHER, NOTHING}
    json.dumps(rows, allow_nan=False)


def test_what_is_finished_is_not_made_again(tmp_path, monkeypatch):
    """Killed and started anew: the base and the parts that were done are read, not computed."""
    plan = Plan(("distill",), ("3",), 1, Effort(8, 8, 100))
    options = asked("--json", str(tmp_path / "audit.json"), "--processes", "1")
    base = blank({"encoder_widths": (4, 4), "decoder_widths": (4, 4), "latent": 2}, seed=0)
    made = []

    def looked_at(network, one, data, how):
        made.append(one)
        return {"label": one.label}, {"embedded": torch.full((2, 2), float(len(made)))}

    monkeypatch.setattr(audit_parts, "_learnt", lambda data: made.append("base") or base)
    monkeypatch.setattr(audit_parts, "_without", lambda base, one, data: base)
    monkeypatch.setattr(audit_parts, "_examined", looked_at)
    monkeypatch.setattr(audit_parts, "compute_reproducibly", lambda threads: None)
    first = finished(plan, options)
    assert made == ["base", *parts_of(plan)]
    assert finished(plan, options) == first
    assert made == ["base", *parts_of(plan)]
    assert [tensors_of(one)["embedded"][0, 0] for one in first.values()] == [2, 3, 4, 5], "each its own"


def test_the_pictures_are_drawn_from_what_the_parts_left(found, tmp_path):
    """Of every network, the references included; three files that a browser can show."""
    plan = plan_of(asked("--quick"))
    everything = {}
    for part in parts_of(plan):
        one = found()
        drawn = {
            "embedded": torch.randn(60, 4),
            "recovered": torch.randint(0, 256, (64, 784), dtype=torch.uint8),
        }
        save_file(drawn, one["tensors"])
        everything[part] = one
    plots(summary(plan, everything), everything, tmp_path / "plots")
    for name in ("recovered", "relearning", "figures"):
        assert (tmp_path / "plots" / f"audit-{name}.png").read_bytes().startswith(b"\x89PNG")
