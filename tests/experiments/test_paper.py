"""The page of the paper is written from results alone, is up to date, and says what was not run."""

import json
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from experiments import clpu, compression, table1
from experiments.paper import SECTIONS, page, read_results
from experiments.paper_audit import AUDIT_FIGURES
from experiments.paper_prose import CAPTIONS, DIFFERS
from experiments.random_passes import summarize
from experiments.redraw import PLOTS, redraw
from experiments.remarks import REMARKS
from experiments.running import Result
from tests.experiments.invented_results import (
    clpu_networks,
    compression_result,
    table1_results,
    two_histories,
)

DOCS = Path(__file__).parents[2] / "docs"
PROVENANCE = {"quick": False, "seeds": 2, "minutes": 12.3, "command": "python -m experiments.some"}


def test_the_page_in_the_repository_is_written_from_the_results_beside_it() -> None:
    assert (DOCS / "paper.md").read_text() == page(read_results(DOCS / "results"), DOCS)


WITH_OWN_PAGES = {"datasets", "generation", "learning_gpu", "scale", "strategies"}
"""Results of experiments and benchmarks that have pages of their own."""


def test_every_result_and_plot_in_the_repository_is_on_the_page() -> None:
    text = (DOCS / "paper.md").read_text()
    assert {file.stem for file in (DOCS / "results").glob("*")} <= set(SECTIONS) | WITH_OWN_PAGES
    assert [file.name for file in (DOCS / "figures").glob("*") if f"(figures/{file.name})" not in text] == []
    assert set(CAPTIONS) | set(DIFFERS) <= set(SECTIONS)


def test_an_experiment_without_results_is_named_with_the_command_that_runs_it(tmp_path: Path) -> None:
    text = page({}, tmp_path)
    for title, command, _ in SECTIONS.values():
        assert f"## {title}\n\nNot run in full yet: `{command}`." in text
    assert "|" not in text, "and there is no table without results"


@pytest.mark.parametrize("every", [True, False], ids=["simple every", "simple last"])
def test_the_numbers_of_random_passes_stand_beside_the_papers(every: bool, tmp_path: Path) -> None:
    found = PROVENANCE | summarize(two_histories(every=every))
    text = page({"random_passes": json.loads(json.dumps(found))}, tmp_path)
    assert "`python -m experiments.some` (2 seeds, 12 minutes of computing)." in text
    assert "| accuracy of the labels held, closed-set, mean | about 95 % | 93.8 % (" in text
    assert "| highest relapse of a forgotten label, in any later pass | not measured | 20.0 % |" in text
    assert ("| the same, open-set (limit: 1 pp) | not measured | +1.25 pp" in text) == every


def test_the_results_of_a_quick_run_are_marked(tmp_path: Path) -> None:
    found = PROVENANCE | {"quick": True} | summarize(two_histories(every=False))
    assert "A quick run, which proves nothing. `python" in page({"random_passes": found}, tmp_path)


def test_what_to_know_of_the_code_that_measured_stands_beside_the_figures(tmp_path: Path) -> None:
    found = PROVENANCE | summarize(two_histories(every=False))
    code, remark = next(iter(REMARKS.items()))
    old, new = ({"random_passes": {**found, "code": one * 5}} for one in (code, "new"))
    assert remark in page(old, tmp_path)
    assert remark not in page(new, tmp_path)


def test_a_plot_is_shown_if_there_is_one(tmp_path: Path) -> None:
    found = {"random_passes": PROVENANCE | summarize(two_histories(every=False))}
    assert "figures/" not in page(found, tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "accuracy-over-passes.png").touch()
    assert "](figures/accuracy-over-passes.png)" in page(found, tmp_path)


def test_the_audit_has_a_row_for_each_strategy_with_what_it_missed(tmp_path: Path) -> None:
    figures: Result = dict.fromkeys(AUDIT_FIGURES, 0.5) | {"spread": {"recovery_gap": 0.25}}
    rows = {
        "distill": figures | {"labels": 10, "verdict": "met", "missed": [], "control_auc": 0.97},
        "surrogate": figures
        | {"verdict": "missed", "missed": ["recovery_gap"], "bars_missed": ["recovery_gap"]}
        | {"relearn_ratio": None},
    }
    for found in (rows, {"strategies": rows}):
        text = page({"audit": found}, tmp_path)
        others = " | ".join(["0.500"] * 6)
        assert f"| `distill` | 10 | 0.500 (s = 0.250) | {others} | none | met |" in text
        assert (
            "| unmeasured | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 | recovery gap | missed: recovery gap |"
            in text
        )
        assert "the same attack has an AUC of 0.970." in text


def test_the_audit_beside_matched_references_has_a_line_for_each_attack(tmp_path: Path) -> None:
    figures: Result = dict.fromkeys(AUDIT_FIGURES, 0.5) | {"verdict": "met"}

    def attack(gap: float, interval: list[float] | None = None, beyond: tuple[str, ...] = ()) -> Result:
        found = {"value": 0.8, "references": 0.8 - gap, "gap": gap, "between": 0.04, "interval": interval}
        counted = {"beyond": dict.fromkeys(beyond, 1), "labels_beyond": list(beyond)}
        return figures | {"attacks": {"free_column_cosine": found | counted}}

    rows = {
        "surrogate": attack(0.1, [0.05, 0.15])
        | {"labels": 2, "matched": attack(0.03, [0.01, 0.05], beyond=("2",))},
        "nothing": attack(0.2) | {"labels": 2, "matched": attack(0.15)},
        "reference": attack(0.0) | {"labels": 2},
        "matched": attack(0.07) | {"labels": 2, "matched": attack(0.01)},
    }
    text = page({"audit_matched": PROVENANCE | {"strategies": rows}}, tmp_path)
    assert (
        "| free column cosine | 0.800 | 0.800 | 0.700 | +0.100 (+0.050 to +0.150) "
        "| 0.770 | +0.030 (+0.010 to +0.050) | 0.040 | 1 of 2: 2 | +0.010 |" in text
    )
    assert "is +0.050; the bar is +0.020. Figures above it: free column cosine." in text
    assert "between two references: free column 2. Networks" in text
    assert "one more matched reference: free column 1 of 2 (0 of 2)." in text
    assert text.count("Attacks on the weights that `") == 1, "controls are columns, not tables"
    assert "| `nothing` | 2 |" in text


def test_the_comparisons_stand_beside_the_papers_own(tmp_path: Path) -> None:
    schedule = {"steps": 4000, "batch_size": 128, "learning_rate": 2.5e-4}
    runs = table1_results(
        {name: [0.9, 0.95, 0.99] for name in table1.arms(1)} | {"resized": [0.91, 0.97, 0.995]}
    )
    accuracy = {method: [0.92, 0.2] for _, panel in compression.PANELS for method in panel}
    text = page(
        {
            "table1": PROVENANCE | schedule | {"published": schedule} | table1.summarize(runs),
            "compression": PROVENANCE
            | {"steps": 300}
            | compression.summarize([compression_result(accuracy)] * 2),
            "clpu": PROVENANCE | clpu.summarize(clpu_networks()),
        },
        tmp_path,
    )
    assert "| the paper's table 1 | +1.38 pp (-0.83 to +3.59) | t = 1.99, p = 0.14, n = 4 | - |" in text
    assert "| `resized` - `fixed` (the same EWC in both) | +1.17 pp (" in text
    assert "took 4,000 steps of 128 examples at 2.5e-04;" in text
    assert "| `dropout_on` | 92.0 % (92.0 to 92.0) | 20.0 % (20.0 to 20.0) | 30% |" in text
    assert "of 3 networks that learned 2 and 3 temporarily and dropped them, 2 have the same files" in text
    assert "| `exact` |" in text
    assert "no such label |" in text


def test_plots_are_drawn_again_from_the_results_in_the_repository(tmp_path: Path) -> None:
    redraw(read_results(DOCS / "results"), tmp_path)
    for file, _ in PLOTS.values():
        assert plt.imread(tmp_path / file).std() > 0.01, "it is not blank"
