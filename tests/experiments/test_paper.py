"""The page of the paper: written from results alone, never out of date, frank about what was not run."""

import json
from pathlib import Path

import pytest

from experiments import clpu, compression, table1
from experiments.paper import AUDITED, PARTS, page, results_in
from experiments.paper_prose import CAPTIONS, DIFFERS
from experiments.random_passes import summary
from tests.experiments.made_up import of_clpu, of_compression, of_table1, two_histories

DOCS = Path(__file__).parents[2] / "docs"
RAN = {"quick": False, "seeds": 2, "minutes": 12.3, "command": "python -m experiments.some"}


def test_the_page_in_the_repository_is_what_the_results_beside_it_say():
    assert (DOCS / "paper.md").read_text() == page(results_in(DOCS / "results"), DOCS)


def test_every_result_and_picture_in_the_repository_is_on_the_page():
    text = (DOCS / "paper.md").read_text()
    assert {file.stem for file in (DOCS / "results").glob("*")} <= set(PARTS)
    assert [file.name for file in (DOCS / "figures").glob("*") if f"(figures/{file.name})" not in text] == []
    assert set(CAPTIONS) | set(DIFFERS) <= set(PARTS)


def test_what_was_never_run_is_said_with_the_command_that_runs_it(tmp_path):
    text = page({}, tmp_path)
    for title, command, _ in PARTS.values():
        assert f"## {title}\n\nNot run in full yet: `{command}`." in text
    assert "|" not in text, "and there is no table without results"


@pytest.mark.parametrize("every", [True, False], ids=["simple every", "simple last"])
def test_the_numbers_of_random_passes_stand_beside_the_papers(every, tmp_path):
    found = RAN | summary(two_histories(every=every))
    text = page({"random_passes": json.loads(json.dumps(found))}, tmp_path)
    assert "`python -m experiments.some` (2 seeds, 12 minutes of computing)." in text
    assert "| accuracy of what is held, closed-set, mean | about 95 % | 93.8 % (" in text
    assert "| worst relapse of a forgotten label, any later pass | not measured | 20.0 % |" in text
    assert ("| the same, open-set (bar: 1 pp) | not measured | +1.25 pp" in text) == every


def test_a_quick_run_is_no_evidence(tmp_path):
    found = RAN | {"quick": True} | summary(two_histories(every=False))
    assert "A quick run, which is no evidence yet. `python" in page({"random_passes": found}, tmp_path)


def test_a_picture_is_shown_where_there_is_one(tmp_path):
    found = {"random_passes": RAN | summary(two_histories(every=False))}
    assert "figures/" not in page(found, tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "accuracy-over-passes.png").touch()
    assert "](figures/accuracy-over-passes.png)" in page(found, tmp_path)


def test_the_audit_has_a_row_a_strategy_with_what_it_missed(tmp_path):
    figures = dict.fromkeys(AUDITED, 0.5) | {"spread": {"recovery_gap": 0.25}}
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


def test_the_comparisons_stand_beside_the_papers_own(tmp_path):
    schedule = {"steps": 4000, "batch_size": 128, "learning_rate": 2.5e-4}
    runs = of_table1({name: [0.9, 0.95, 0.99] for name in table1.arms(1)} | {"resized": [0.91, 0.97, 0.995]})
    ways = {way: [0.92, 0.2] for _, panel in compression.PANELS for way in panel}
    text = page(
        {
            "table1": RAN | schedule | {"published": schedule} | table1.summary(runs),
            "compression": RAN | {"steps": 300} | compression.summary([of_compression(ways)] * 2),
            "clpu": RAN | clpu.summary(of_clpu()),
        },
        tmp_path,
    )
    assert "| the paper's table 1 | +1.38 pp (-0.83 to +3.59) | t = 1.99, p = 0.14, n = 4 | - |" in text
    assert "| `resized` - `fixed` (the same EWC in both) | +1.17 pp (" in text
    assert "took 4,000 steps of 128 examples at 2.5e-04;" in text
    assert "| `dropout_on` | 92.0 % (92.0 to 92.0) | 20.0 % (20.0 to 20.0) | 30% |" in text
    assert "Byte identity: 2 of 3 networks" in text
    assert "| `exact` |" in text
    assert "no such label |" in text
