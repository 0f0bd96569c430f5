"""The audit's rows and plan: which strategies pass, which are flagged, and what is made only once."""

import json
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from experiments import running
from experiments.audit import (
    FULL,
    QUICK,
    QUICK_STRATEGIES,
    STRATEGIES,
    Plan,
    make_cases,
    make_parser,
    make_plan,
    make_rows,
    run_cases,
)
from experiments.audit_cases import (
    NOTHING,
    REFERENCE,
    Budget,
    Case,
    CaseResult,
    Procedure,
    resolve,
)
from experiments.audit_plots import plot_all
from experiments.audit_summary import p_value_of_another_reference, summarize
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.audit_measurements import AuditMeasurements
from worker.learning.networks import blank
from worker.learning.strategy import find

RISING = ((0, 0.0), (20, 0.5), (40, 1.0))
FLAT = ((0, 0.0), (20, 0.1), (40, 0.2))
AUC = dict.fromkeys(("elbo", "reconstruction", "elbo_set", "reconstruction_set"), 0.5)
USUAL = AuditMeasurements(20, 1000, 160, 256, RISING, RISING, AUC)


class Factory:
    """Makes results of cases, each with its own draws."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0

    def result(self, *, centre: float = 0.0, control_auc: float | None = None, **changed: Any) -> CaseResult:
        """A result as usual except for the changed measurements. centre: of the draws' features."""
        self.made += 1
        file = self.folder / f"{self.made}.safetensors"
        generator = torch.Generator().manual_seed(self.made)
        save_file(
            {
                "embedded": centre + torch.randn(60, 4, generator=generator),
                "recovered": torch.randint(0, 256, (64, 784), dtype=torch.uint8, generator=generator),
            },
            file,
        )
        return CaseResult(replace(USUAL, **changed), 0.98, 0.8, control_auc, file)

    def references(self) -> list[CaseResult]:
        return [self.result(found=count) for count in (150, 160, 170)]


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    return Factory(tmp_path)


def test_one_more_reference_passes(factory: Factory) -> None:
    references = {"3": factory.references(), "8": factory.references()}
    row = summarize({"3": factory.result(), "8": factory.result()}, references)
    assert (row["verdict"], row["missed"]) == ("met", [])
    assert abs(row["likeness"]) < 0.2


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
def test_a_figure_far_from_the_references_is_flagged(
    factory: Factory, changed: dict[str, Any], missed: set[str]
) -> None:
    results = {label: factory.result(**changed) for label in "38"}
    row = summarize(results, {"3": factory.references(), "8": factory.references()})
    assert set(row["missed"]) == missed


def test_gaps_on_both_sides_do_not_cancel(factory: Factory) -> None:
    """Far above on one label and far below on another: the mean gap is zero, the spread shows the gaps."""
    results = {"3": factory.result(found=250), "8": factory.result(found=70)}
    row = summarize(results, {"3": factory.references(), "8": factory.references()})
    assert abs(row["recovery_gap"]) < 0.01
    assert row["missed"] == ["recovery_within_spread"]


def test_a_label_that_a_reference_did_not_relearn_has_no_ratio_and_the_row_says_why(factory: Factory) -> None:
    references = {"3": factory.references(), "8": [*factory.references(), factory.result(curve=FLAT)]}
    row = summarize({"3": factory.result(), "8": factory.result()}, references)
    assert (row["verdict"], row["relearn_ratio"]) == ("undecided", pytest.approx(1))
    assert row["unmeasured"].keys() == {"8"}
    assert "did not reach 90% in 40 steps" in row["unmeasured"]["8"]


def test_a_row_without_any_relearn_ratio_can_still_be_missed(factory: Factory) -> None:
    references = {"8": [*factory.references(), factory.result(curve=FLAT)]}
    row = summarize({"8": factory.result()}, references)
    assert (row["relearn_ratio"], row["spread"]["relearn_ratio"]) == (None, None)
    assert "recovery_gap" in summarize({"8": factory.result(found=20)}, references)["missed"]


def test_a_gap_of_the_attacks_on_sets_is_in_the_row_and_has_no_limit(factory: Factory) -> None:
    auc = AUC | {"elbo_set": 0.6, "reconstruction_set": 0.45}
    row = summarize({"3": factory.result(auc=auc)}, {"3": factory.references()})
    assert (row["verdict"], row["membership_auc_gap"]) == ("met", 0)
    assert row["membership_set_gap"] == pytest.approx(0.1)


def test_the_attack_has_to_recognise_memorised_members(factory: Factory) -> None:
    references = {"3": factory.references()}
    assert summarize({"3": factory.result()}, references)["control_auc"] is None
    row = summarize({"3": factory.result(control_auc=0.97)}, references)
    assert (row["control_auc"], row["bars_missed"]) == (0.97, [])
    missed = summarize({"3": factory.result(control_auc=0.55)}, references)
    assert (missed["verdict"], missed["missed"]) == ("missed", ["control_auc"])


def test_memory_is_the_mean_over_the_labels_that_have_one(factory: Factory) -> None:
    slow = factory.result(unseen_curve=FLAT)
    references = {"3": factory.references(), "8": factory.references()}
    assert summarize({"3": factory.result(), "8": slow}, references)["relearn_memory"] == pytest.approx(1)
    assert summarize({"8": slow}, references)["relearn_memory"] is None


def test_draws_of_another_kind_have_a_large_energy_distance(factory: Factory) -> None:
    row = summarize({"3": factory.result(centre=3.0)}, {"3": factory.references()})
    assert row["likeness"] > 1


def test_the_p_value_of_one_more_reference_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    p_values = []
    for _ in range(300):
        runs = torch.randn(5, 4, generator=generator).tolist()  # five labels, three references and one more
        gaps = [one[3] - sum(one[:3]) / 3 for one in runs]
        p_values.append(p_value_of_another_reference(gaps, [one[:3] for one in runs]))
    assert sum(p < 0.1 for p in p_values) / 300 == pytest.approx(0.1, abs=0.05)
    assert sum(p < 0.5 for p in p_values) / 300 == pytest.approx(0.5, abs=0.1)


def parse(*words: str) -> Namespace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["audit", "--json", "figures.json", *words])
        return running.parse_options(make_parser(), FULL, QUICK)


def test_a_full_audit_takes_every_label_and_one_reference_more_than_it_compares_with() -> None:
    plan = make_plan(parse())
    cases = make_cases(plan)
    assert len(plan.labels) == 10
    assert len({case.seed for case in cases if case.strategy == REFERENCE}) == plan.references + 1
    assert sum(case.strategy == NOTHING for case in cases) == 10
    assert len(cases) == len(set(cases)) == len({case.network_name for case in cases})


def test_selective_amnesia_has_its_published_steps_on_one_label_and_fewer_on_all() -> None:
    plan = make_plan(parse())
    labels = Counter(case.strategy for case in make_cases(plan))
    assert (labels["selective_amnesia"], labels["selective_amnesia_shortened"]) == (1, 10)
    assert resolve("selective_amnesia") == ("selective_amnesia", {})
    schedule = resolve("selective_amnesia_shortened")[1]["schedule"]
    assert schedule["steps"] * schedule["learning_rate"] == pytest.approx(1.0), "as published"


def test_a_strategy_may_have_params() -> None:
    assert resolve('surrogate:{"prune_share":0}') == ("surrogate", {"prune_share": 0})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_of_the_audit_is_in_the_catalog_with_valid_params(strategy: str) -> None:
    name, params = resolve(strategy)
    find("forget", name).Params.model_validate(params)


def test_one_reference_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--references", "1")
    assert "at least 2" in capsys.readouterr().err


def test_there_is_a_row_for_each_strategy_and_for_both_controls(factory: Factory) -> None:
    plan = make_plan(parse("--quick", "--labels", "3"))
    rows = make_rows(plan, {case: factory.result() for case in make_cases(plan)})
    assert set(rows) == {*QUICK_STRATEGIES, REFERENCE, NOTHING}
    json.dumps(rows, allow_nan=False)


class CountingProcedure:
    """An audit of untrained networks that records what it makes."""

    def __init__(self) -> None:
        self.made: list[str | Case] = []

    def learn(self, data: Path) -> Checkpoint:
        self.made.append("base")
        return blank({"encoder_widths": (4, 4), "decoder_widths": (4, 4), "latent": 2}, seed=0)

    def measure(
        self, network: Checkpoint, case: Case, data: Path, budget: Budget
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self.made.append(case)
        result = {"measurements": asdict(USUAL), "retained": 0.98, "coverage": 0.8}
        return result, {"embedded": torch.full((2, 2), float(len(self.made)))}

    def procedure(self) -> Procedure:
        return Procedure(self.learn, lambda base, case, data: base, self.measure)


def test_finished_cases_are_not_made_again(tmp_path: Path) -> None:
    """After an interruption, the base and the finished cases are read from the cache."""
    plan = Plan(("distill",), ("3",), 1, Budget(8, 8, 100))
    options = parse("--json", str(tmp_path / "audit.json"), "--processes", "1")
    counting = CountingProcedure()
    first = run_cases(plan, options, counting.procedure())
    assert counting.made == ["base", *make_cases(plan)]
    assert run_cases(plan, options, counting.procedure()) == first
    assert counting.made == ["base", *make_cases(plan)]
    folder = running.cache_of(options).folder
    tensors = [CaseResult.of(one, folder).tensors()["embedded"] for one in first.values()]
    assert [one[0, 0] for one in tensors] == [2, 3, 4, 5], "each case has its own"


def test_three_plots_are_drawn_from_the_results_of_all_networks(factory: Factory, tmp_path: Path) -> None:
    plan = make_plan(parse("--quick"))
    results = {case: factory.result() for case in make_cases(plan)}
    plot_all(make_rows(plan, results), results, tmp_path / "plots")
    for name in ("recovered", "relearning", "figures"):
        assert (tmp_path / "plots" / f"audit-{name}.png").read_bytes().startswith(b"\x89PNG")
