"""The audit's rows and plan: which strategies pass, which are flagged, and what is made only once."""

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
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
    MATCHED_CONTROL,
    QUICK,
    QUICK_STRATEGIES,
    SLOWEST,
    STRATEGIES,
    Plan,
    make_cases,
    make_comparisons,
    make_parser,
    make_plan,
    make_rows,
    make_setting,
    run_cases,
    take_by_label,
)
from experiments.audit_attacks import alignment_figures, compare_attacks
from experiments.audit_cases import (
    MATCHED,
    NOTHING,
    REFERENCE,
    Budget,
    Case,
    CaseResult,
    Procedure,
    resolve,
)
from experiments.audit_histories import History, Setting, history_of
from experiments.audit_plots import plot_all
from experiments.audit_summary import p_value_of_another_reference, summarize
from experiments.running import Result
from experiments.training_setup import LEARN_STRATEGIES
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.audit_measurements import AuditMeasurements
from worker.learning.networks import blank
from worker.learning.strategy import find

RISING = ((0, 0.0), (20, 0.5), (40, 1.0))
FLAT = ((0, 0.0), (20, 0.1), (40, 0.2))
AUC = dict.fromkeys(("elbo", "reconstruction", "elbo_set", "reconstruction_set"), 0.5)
USUAL = AuditMeasurements(20, 1000, 160, 256, RISING, RISING, AUC)
ATTACKS = {"free_column_cosine": 0.75, "free_column_share": 0.6, "few_shot_1_nats": 150.0}


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
        attacks = ATTACKS | changed.pop("attacks", {})
        return CaseResult(replace(USUAL, **changed), 0.98, 0.8, control_auc, file, attacks)

    def references(self) -> list[CaseResult]:
        return [
            self.result(found=count, attacks={"free_column_cosine": cosine})
            for count, cosine in ((150, 0.74), (160, 0.75), (170, 0.76))
        ]


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    return Factory(tmp_path)


def test_one_more_reference_passes(factory: Factory) -> None:
    references = {"3": factory.references(), "8": factory.references()}
    row = summarize({"3": [factory.result()], "8": [factory.result()]}, references)
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
        ({"auc": AUC | {"elbo_set": 0.6, "reconstruction_set": 0.45}}, {"membership_set_gap"}),
        ({"attacks": {"free_column_cosine": 0.85}}, {"free_column_cosine"}),
        ({"attacks": {"few_shot_1_nats": 140.0}}, {"few_shot_1_nats"}),
        ({"attacks": {"few_shot_1_nats": 160.0, "free_column_cosine": 0.65}}, set()),
    ],
)
def test_a_figure_far_from_the_references_is_flagged(
    factory: Factory, changed: dict[str, Any], missed: set[str]
) -> None:
    results = {label: [factory.result(**changed)] for label in "38"}
    row = summarize(results, {"3": factory.references(), "8": factory.references()})
    assert set(row["missed"]) == missed


def test_gaps_on_both_sides_do_not_cancel(factory: Factory) -> None:
    """Far above on one label and far below on another: the mean gap is zero, the spread shows the gaps."""
    results = {"3": [factory.result(found=250)], "8": [factory.result(found=70)]}
    row = summarize(results, {"3": factory.references(), "8": factory.references()})
    assert abs(row["recovery_gap"]) < 0.01
    assert row["missed"] == ["recovery_within_spread"]


def test_a_label_that_a_reference_did_not_relearn_has_no_ratio_and_the_row_says_why(factory: Factory) -> None:
    references = {"3": factory.references(), "8": [*factory.references(), factory.result(curve=FLAT)]}
    row = summarize({"3": [factory.result()], "8": [factory.result()]}, references)
    assert (row["verdict"], row["relearn_ratio"]) == ("undecided", pytest.approx(1))
    assert row["unmeasured"].keys() == {"8"}
    assert "did not reach 90% in 40 steps" in row["unmeasured"]["8"]


def test_a_row_without_any_relearn_ratio_can_still_be_missed(factory: Factory) -> None:
    references = {"8": [*factory.references(), factory.result(curve=FLAT)]}
    row = summarize({"8": [factory.result()]}, references)
    assert (row["relearn_ratio"], row["spread"]["relearn_ratio"]) == (None, None)
    assert "recovery_gap" in summarize({"8": [factory.result(found=20)]}, references)["missed"]


def test_the_larger_gap_of_the_attacks_on_sets_counts(factory: Factory) -> None:
    auc = AUC | {"elbo_set": 0.54, "reconstruction_set": 0.47}
    row = summarize({"3": [factory.result(auc=auc)]}, {"3": factory.references()})
    assert (row["verdict"], row["membership_auc_gap"]) == ("met", 0)
    assert row["membership_set_gap"] == pytest.approx(0.04)


def test_a_label_beyond_the_references_is_named_and_more_nats_are_less_of_the_label() -> None:
    networks = {
        "2": [{"few_cosine": 0.80, "few_nats": 126.0}],
        "3": [{"few_cosine": 0.71, "few_nats": 134.0}],
    }
    references = {
        label: [{"few_cosine": cosine, "few_nats": nats} for cosine, nats in ((0.70, 130.0), (0.74, 134.0))]
        for label in networks
    }
    found = compare_attacks(networks, references)
    cosine, nats = found["few_cosine"], found["few_nats"]
    assert (cosine["gap"], cosine["between"]) == (pytest.approx(0.035), pytest.approx(0.04))
    assert (cosine["beyond"], cosine["by_label"]["2"]) == ({"2": 1}, [[0.80], [0.70, 0.74]])
    assert nats["gap"] == pytest.approx(2)
    assert nats["labels_beyond"] == ["2"]
    assert cosine["interval"][0] < cosine["gap"] < cosine["interval"][1]
    single = compare_attacks({"2": networks["2"]}, references)
    assert single["few_cosine"]["interval"] is None
    without = compare_attacks(networks | {"3": [{"few_cosine": 0.7}]}, references)
    assert without.keys() == {"few_cosine"}, "a figure that a network lacks is left out"


def test_seeds_of_a_label_are_averaged_before_the_interval_because_they_share_references() -> None:
    references = {label: [{"few_cosine": one} for one in (0.69, 0.71)] for label in "23"}

    def found(gaps: Mapping[str, Sequence[float]]) -> Result:
        networks = {label: [{"few_cosine": 0.7 + gap} for gap in one] for label, one in gaps.items()}
        return compare_attacks(networks, references)["few_cosine"]

    several = found({"2": (0.03, 0.01, 0.02), "3": (0.0, 0.03, -0.03)})
    assert several["interval"] == pytest.approx(found({"2": (0.02,), "3": (0.0,)})["interval"])
    assert several["beyond"] == {"2": 1, "3": 1}
    assert several["labels_beyond"] == [], "their means are not"


def test_a_reference_is_not_aligned_with_itself() -> None:
    pairs = {
        "c a": {"retained": 4.0, "label": 40.0},
        "c b": {"retained": 6.0, "label": 20.0},
        "a b": {"retained": 1.0, "label": 3.0},
    }
    assert alignment_figures("c", ["a", "b"], pairs) == {"alignment_retained": 5, "alignment_label": 30}
    assert alignment_figures("b", ["a", "b"], pairs) == {"alignment_retained": 1, "alignment_label": 3}
    assert alignment_figures("c", ["a", "z"], pairs) == {}, "one pair was not measured"


def test_the_attack_has_to_recognise_memorised_members(factory: Factory) -> None:
    references = {"3": factory.references()}
    assert summarize({"3": [factory.result()]}, references)["control_auc"] is None
    row = summarize({"3": [factory.result(control_auc=0.97)]}, references)
    assert (row["control_auc"], row["bars_missed"]) == (0.97, [])
    missed = summarize({"3": [factory.result(control_auc=0.55)]}, references)
    assert (missed["verdict"], missed["missed"]) == ("missed", ["control_auc"])


def test_memory_is_the_mean_over_the_labels_that_have_one(factory: Factory) -> None:
    slow = factory.result(unseen_curve=FLAT)
    references = {"3": factory.references(), "8": factory.references()}
    assert summarize({"3": [factory.result()], "8": [slow]}, references)["relearn_memory"] == pytest.approx(1)
    assert summarize({"8": [slow]}, references)["relearn_memory"] is None


def test_draws_of_another_kind_have_a_large_energy_distance(factory: Factory) -> None:
    row = summarize({"3": [factory.result(centre=3.0)]}, {"3": factory.references()})
    assert row["likeness"] > 1


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_p_value_of_more_references_is_uniform(seeds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    p_values = []
    for _ in range(300):
        runs = torch.randn(5, 3 + seeds, generator=generator).tolist()  # five labels, three references
        gaps = [[value - sum(one[:3]) / 3 for value in one[3:]] for one in runs]
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
    first = MATCHED + STRATEGIES[0]
    for kind, more in ((REFERENCE, 1), (first, 1), (MATCHED + STRATEGIES[1], 0)):
        assert len({case.seed for case in cases if case.strategy == kind}) == plan.references + more
    assert sum(case.strategy == NOTHING for case in cases) == 10
    assert not any(case.strategy == MATCHED + SLOWEST for case in cases)
    assert len(cases) == len(set(cases)) == len({case.network_name for case in cases})


def test_labels_are_given_with_commas_or_spaces_and_each_seed_has_a_base() -> None:
    plan = make_plan(parse("--labels", "2,3", "7", "--seeds", "2", "--strategies", "surrogate"))
    assert (plan.labels, plan.seeds) == (("2", "3", "7"), 2)
    cases = make_cases(plan)
    assert [one.seed for one in cases if (one.label, one.strategy) == ("3", "surrogate")] == [0, 1]
    assert [one.seed for one in cases if (one.label, one.strategy) == ("3", NOTHING)] == [0, 1]
    other = make_plan(parse("--dataset", "fashion_mnist"))
    assert (len(other.labels), other.labels[1]) == (10, "trouser")


@pytest.mark.parametrize("label", "0123456789")
def test_every_label_is_learned_before_it_is_forgotten_and_no_stand_in_is(label: str) -> None:
    history = history_of(label, "0123456789")
    learned = {name for job in history.jobs for name in job}
    assert label in learned
    assert [len(job) for job in history.jobs] == [5, 3]
    assert not learned & set(history.stand_ins)
    assert {history.stand_in(label, number).name for number in range(3)} == set(history.stand_ins)


def test_every_network_that_is_compared_is_made() -> None:
    plan = make_plan(parse("--seeds", "2"))
    made = set(make_cases(plan))
    for one in make_comparisons(plan):
        for label in plan.labels_of(one.row):
            cases = {*one.cases(label), *one.references(label)}
            assert cases <= made
            assert not set(one.cases(label)) & set(one.references(label)), "none is compared with itself"
            assert {case for pair in one.pairs(label) for case in pair} == cases


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


def test_there_is_a_row_for_each_strategy_and_control_beside_both_kinds_of_references(
    factory: Factory,
) -> None:
    plan = make_plan(parse("--quick", "--labels", "3"))
    rows = make_rows(plan, {case: factory.result() for case in make_cases(plan)})
    assert set(rows) == {*QUICK_STRATEGIES, REFERENCE, MATCHED_CONTROL, NOTHING}
    assert {name for name, row in rows.items() if "matched" not in row} == {REFERENCE}
    assert rows["distill"]["matched"]["attacks"]["free_column_cosine"]["gap"] == 0
    json.dumps(rows, allow_nan=False)
    single = take_by_label(rows["distill"])
    assert single["matched"]["attacks"]["free_column_cosine"] == {"3": [[0.75], [0.75] * 3]}
    assert "by_label" not in json.dumps(rows["distill"])


def test_several_seeds_are_compared_with_the_same_references(factory: Factory) -> None:
    plan = make_plan(parse("--labels", "2,3", "--seeds", "2", "--strategies", "surrogate"))
    measured = {case: factory.result() for case in make_cases(plan)}
    measured[Case("3", "surrogate", 1)] = factory.result(attacks={"free_column_cosine": 0.95})
    row = make_rows(plan, measured)["surrogate"]
    assert (row["labels"], row["seeds"]) == (2, 2)
    for found in (row, row["matched"]):
        figure = found["attacks"]["free_column_cosine"]
        assert figure["gap"] == pytest.approx(0.05)
        assert figure["beyond"] == {"3": 1}
        assert figure["by_label"]["3"][0] == [0.75, 0.95]


class CountingProcedure:
    """An audit of untrained networks that records what it makes."""

    def __init__(self) -> None:
        self.made: list[str | Case] = []

    def learn(self, history: History, setting: Setting, seed: int, cache: running.Cache) -> Checkpoint:
        self.made.append(f"base {history.jobs[0]} {seed}")
        return self.make(Case("3", NOTHING, 0), setting, cache)

    def make(self, case: Case, setting: Setting, cache: running.Cache) -> Checkpoint:
        return blank({"encoder_widths": (4, 4), "decoder_widths": (4, 4), "latent": 2}, seed=0)

    def measure(
        self, network: Checkpoint, case: Case, setting: Setting, budget: Budget, cache: running.Cache
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self.made.append(case)
        result = {"measurements": asdict(USUAL), "retained": 0.98, "coverage": 0.8, "attacks": ATTACKS}
        return result, {"embedded": torch.full((2, 2), float(len(self.made)))}

    def procedure(self) -> Procedure:
        return Procedure(self.learn, self.make, self.measure)


def test_finished_cases_are_not_made_again(tmp_path: Path) -> None:
    """After an interruption, the bases and the finished cases are read from the cache."""
    plan = Plan(("distill",), ("3", "4"), 1, Budget(8, 8, 100))
    options = parse("--json", str(tmp_path / "audit.json"), "--processes", "1")
    counting, setting = CountingProcedure(), Setting("mnist", tmp_path)
    first = run_cases(plan, setting, options, counting.procedure())
    assert counting.made == ["base ('0', '1', '2', '3', '4') 0", *make_cases(plan)]
    assert run_cases(plan, setting, options, counting.procedure()) == first
    assert counting.made == ["base ('0', '1', '2', '3', '4') 0", *make_cases(plan)]
    folder = running.cache_of(options).folder
    results = [CaseResult.of(one, folder) for one in first.values()]
    drawn = [one.tensors()["embedded"][0, 0] for one in results]
    assert drawn == list(range(2, 2 + len(make_cases(plan)))), "each case has its own"
    assert results[0].attacks == ATTACKS
    more = replace(plan, labels=("3", "4", "8"))
    run_cases(more, setting, options, counting.procedure())
    added = [case for case in make_cases(more) if case.label == "8"]
    known = 1 + len(make_cases(plan))
    assert counting.made[known:] == ["base ('5', '6', '7', '8', '9') 0", *added], "only what is new"


def test_three_plots_are_drawn_from_the_results_of_all_networks(factory: Factory, tmp_path: Path) -> None:
    plan = make_plan(parse("--quick"))
    results = {case: factory.result() for case in make_cases(plan)}
    plot_all(make_rows(plan, results), results, tmp_path / "plots")
    for name in ("recovered", "relearning", "figures"):
        assert (tmp_path / "plots" / f"audit-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_networks_of_each_architecture_are_audited_and_kept_apart() -> None:
    settings = [make_setting(parse("--architecture", name)) for name in LEARN_STRATEGIES]
    assert len({one.name for one in settings}) == len(settings)
    for one, (architecture, learn) in zip(settings, LEARN_STRATEGIES.items(), strict=True):
        assert one.blank(0).spec.architecture == architecture
        works_on = find("learn", learn).architectures
        assert works_on is None or architecture in works_on
