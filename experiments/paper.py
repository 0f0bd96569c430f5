"""Write docs/paper.md, which shows the paper's numbers beside those of the experiments.

    python -m experiments.paper [--results docs/results] [--page docs/paper.md]

Every number of an experiment comes from its results, which are what it prints: `python -m experiments.table1
... > docs/results/table1.json`. A section says so if its experiment has no results yet, or only those of a
quick run. The paper's own numbers are constants of this module.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.markdown import table
from experiments.paper_audit import audit, audit_matched
from experiments.paper_prose import CAPTIONS, DIFFERS, INTRO
from experiments.remarks import REMARKS
from experiments.running import Result
from experiments.significance import paired_t_test

PUBLISHED_FIXED, PUBLISHED_RESIZED = (95.25, 95.22, 92.84, 93.98), (96.19, 94.86, 95.61, 96.16)
"""The paper's table 1: accuracy in percent, four runs."""
FIGURES = "figures"
"""The folder of the plots, beside the page."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results"), help="folder of the results; %(default)s"
    )
    parser.add_argument("--page", type=Path, default=Path("docs/paper.md"), help="file to write; %(default)s")
    options = parser.parse_args()
    options.page.write_text(page(read_results(options.results), options.page.parent))


def read_results(folder: Path) -> dict[str, Result]:
    """Return the results of each experiment, by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def page(results: Mapping[str, Result], folder: Path) -> str:
    """Return the text of the page. folder: where the page will be; it shows the plots that are there."""
    sections = [INTRO]
    for name, (title, command, write) in SECTIONS.items():
        result = results.get(name)
        if result is None:
            body, plots = [f"Not run in full yet: `{command}`."], []
        else:
            body = [_provenance(result, command), *write(result)]
            plots = [
                f"![{caption}]({FIGURES}/{file})"
                for file, caption in CAPTIONS.get(name, {}).items()
                if (folder / FIGURES / file).is_file()
            ]
        paragraphs = [f"## {title}", *body, *plots, DIFFERS.get(name, "")]
        sections.append("\n\n".join(filter(None, paragraphs)))
    return "\n\n".join(sections) + "\n"


def _provenance(result: Result, command: str) -> str:
    """The sentence that says how the results of a section were computed."""
    if "command" not in result:
        return f"`{command}`."
    quick = "A quick run, which proves nothing. " if result["quick"] else ""
    seeds = f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''}"
    code = result.get("code", "")[:12]
    shown = f", code {code}" if code else ""
    ran = f"{quick}`{result['command']}` ({seeds}, {result['minutes']:.0f} minutes of computing{shown})."
    return f"{ran} {REMARKS[code]}" if code in REMARKS else ran


def random_passes(result: Result) -> list[str]:
    every, last = result["every_pass"], result["last_pass"]
    ran = f"{result['seeds']} runs of {result['passes']} passes"
    rows = [
        ("runs", "5 runs, 54 points in all", ran),
        ("accuracy of the labels held, closed-set, mean", "about 95 %", _share(result["retained"]) + " b"),
        ("the same, open-set", "not measured", _share(result["open"])),
        ("passes under 90 %", "2 of 54", _percent(result["passes_under_90"])),
        ("worst pass", "under 90 %", _percent(result["worst_pass"])),
        (
            "drift: mean of the last three passes minus mean of the first three",
            "downwards in 3 of 5 runs",
            _points(result["drift"]),
        ),
        (
            "figure 3: simple model minus ours after the last pass, mean over labels",
            "-",
            _pp(last["mean_gap"]),
        ),
        ("figure 3: the same for the worst label", "9 pp", _pp(last["worst_gap"])),
        (
            "highest relapse of a forgotten label, in any later pass",
            "not measured",
            _percent(result["worst_relapse"]),
        ),
        (
            "seconds for a pass: median / slowest",
            "939 s for 50,000 steps on a GPU (its log)",
            _seconds(result),
        ),
    ]
    if every is not None:
        rows += [
            ("simple model minus ours after every pass, closed-set", "not measured", _points(every["gap"])),
            ("the same, open-set (limit: 1 pp)", "not measured", _points(every["open_gap"])),
            (
                "coverage, divided by the simple model's (limit: 0.95)",
                "not measured",
                _number(every["coverage_ratio"]),
            ),
            *(
                [
                    (
                        "relative coverage, divided by the simple model's (limit: 0.97)",
                        "not measured",
                        _number(every["relative_coverage_ratio"]),
                    )
                ]
                if "relative_coverage_ratio" in every
                else []
            ),
            (
                "draws taken for a forgotten label, minus the simple model's (limit: 2 pp)",
                "not measured",
                _points(every["relapse_above_simple"]),
            ),
            (
                "share of forgotten labels for which this difference is over 2 pp",
                "not measured",
                _percent(every["relapses_over_2_pp"]),
            ),
            (
                f"the same in the {every['by_chance']['n']} cases in which another seed's simple model has "
                "the same labels; and the share for that other model",
                "not measured",
                f"{_percent(every['by_chance']['relapses_over_2_pp'])}; "
                f"{_percent(every['by_chance']['another_simple_over_2_pp'])}",
            ),
        ]
    return [table(("", "the paper", "here"), rows)]


def auto_size(result: Result) -> list[str]:
    rows = [
        ("open-set accuracy", _percent(result["accuracy_fixed"]), _percent(result["accuracy"])),
        ("parameters, mean", f"{result['parameters_fixed']:,.0f}", f"{result['parameters']:,.0f}"),
        ("rank correlation of width and number of labels held", "-", f"{result['width_follows_labels']:.2f}"),
    ]
    return [table(("", "fixed shares, as in the paper", "strategy `auto`"), rows)]


def table1(result: Result) -> list[str]:
    published = paired_t_test(PUBLISHED_RESIZED, PUBLISHED_FIXED)
    arms = [
        (
            f"`{name}`",
            _share(arm["retained_closed"]),
            _share(arm["retained"]),
            _percent(arm["coverage"]["mean"]),
            _share(arm["forgotten"]),
            f"{arm['seconds']['mean']:.0f}",
            f"{arm['parameters']['mean']:,.0f}",
        )
        for name, arm in result["arms"].items()
    ]
    heads = ("arm", "retained, closed-set", "open-set", "coverage", "forgotten", "seconds", "parameters")
    tests = [("the paper's table 1", _points(published, scale=1), _p(published), "-")]
    for name, one in result["compared"].items():
        closed = one["retained_closed"]
        pair = f"`{one['arms'][0]}` - `{one['arms'][1]}` ({COMPARISONS[name]})"
        tests.append((pair, _points(closed), _p(closed), _points(one["retained"])))
    budget = (
        f"Every arm but `service` took {_steps(result)}; Selective Amnesia was published with "
        f"{_steps(result['published'])}."
    )
    compared = ("difference", "closed-set", "paired t-test", "open-set")
    return [budget, table(heads, arms), table(compared, tests)]


def _steps(schedule: Mapping[str, Any]) -> str:
    rate = schedule["learning_rate"]
    return f"{schedule['steps']:,} steps of {schedule['batch_size']} examples at {rate:.1e}"


def clpu(result: Result) -> list[str]:
    same = result["identical"]
    rows = []
    for name in result["tests"]["forgotten"]:
        if name == "reference":
            continue
        forgotten = result["forgotten"].get(name)
        tests = [result["tests"][kind][name] for kind in ("forgotten", "retained")]
        rows.append(
            (
                f"`{name}`",
                *(f"{test['across'] / test['within']:.2f}, p = {test['p']:.2g}" for test in tests),
                _share(result["retained"][name]),
                "no such label" if forgotten is None else _share(forgotten),
            )
        )
    heads = (
        "group",
        "divergence, forgotten labels' images",
        "retained labels' images",
        "retained",
        "forgotten",
    )
    return [
        f"Byte identity: of {same['of']} networks that learned 2 and 3 temporarily and dropped them, "
        f"{same['same']} have the same files, byte for byte, as those that never saw 2 and 3.",
        "Divergence is the mean between a group and the reference group, divided by the mean within the "
        "groups. It is about 1 if the groups do not differ. The smallest p that is possible with so few "
        "networks is "
        f"{result['smallest_p']:.2g}.",
        table(heads, rows),
    ]


def compression(result: Result) -> list[str]:
    shares = [f"{share:.0%}" for share in result["shares"]]
    rows = [
        (f"`{method}`", *(_share(point["open"]) for point in curve), f"{result['cliff'][method]:.0%}")
        for method, curve in result["curves"].items()
    ]
    compared = [
        (f"`{name.replace('-', '` - `')}`", *(_points(one) for one in tests))
        for name, tests in result["compared"].items()
    ]
    return [
        f"Open-set accuracy before: {_share(result['before'])}. Each training took {result['steps']} steps.",
        table(("units removed", *shares, "cliff"), rows),
        table(("paired difference", *shares), compared),
    ]


COMPARISONS = {
    "same_ewc": "the same EWC in both",
    "confounded": "the paper's pair: EWC in one only",
    "pruning_alone": "the effect of resizing alone",
    "service": "the service's default, with its own schedule",
}
Section = tuple[str, str, Callable[[Result], list[str]]]
"""A section's title, the command that computes its results, and the function that writes it from them."""
SECTIONS: dict[str, Section] = {
    "random_passes": (
        "Figures 3 and 4: ten random passes",
        "python -m experiments.random_passes --seeds 10 --passes 10",
        random_passes,
    ),
    "auto_size": (
        "A width that follows the number of labels",
        "python -m experiments.auto_size --seeds 10",
        auto_size,
    ),
    "table1": (
        "Table 1: Selective Amnesia against forgetting with resizing",
        "python -m experiments.table1 --seeds 10",
        table1,
    ),
    "compression": (
        "Section 4.2.1: how small a network can be made",
        "python -m experiments.compression --seeds 5",
        compression,
    ),
    "clpu": ("Section 3.2: the script of CLPU", "python -m experiments.clpu --seeds 5", clpu),
    "audit": (
        "What the paper does not measure: is the label forgotten?",
        "python -m experiments.audit",
        audit,
    ),
    "audit_matched": (
        "The same beside references that are matched in procedure",
        "python -m experiments.audit --strategies surrogate --seeds 3 --json docs/results/audit_matched.json",
        audit_matched,
    ),
    "audit_matched_fashion": (
        "The same on Fashion-MNIST",
        "python -m experiments.audit --dataset fashion_mnist --strategies surrogate --seeds 3 "
        "--json docs/results/audit_matched_fashion.json",
        audit_matched,
    ),
}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _pp(share: float) -> str:
    return f"{100 * share:.1f} pp"


def _share(one: Mapping[str, Any]) -> str:
    """A mean share with its interval, in percent."""
    if one["low"] is None:
        return _percent(one["mean"])
    low, high = 100 * max(0, one["low"]), 100 * min(1, one["high"])
    return f"{_percent(one['mean'])} ({low:.1f} to {high:.1f})"


def _points(one: Mapping[str, Any] | None, *, scale: float = 100) -> str:
    """A mean difference with its interval, in percentage points."""
    if one is None:
        return "-"
    mean = f"{scale * one['mean']:+.2f} pp"
    return mean if one["low"] is None else f"{mean} ({scale * one['low']:+.2f} to {scale * one['high']:+.2f})"


def _number(one: Mapping[str, Any]) -> str:
    mean = f"{one['mean']:.3f}"
    return mean if one["low"] is None else f"{mean} ({one['low']:.3f} to {one['high']:.3f})"


def _p(test: Mapping[str, Any]) -> str:
    return "-" if test["p"] is None else f"t = {test['t']:.2f}, p = {test['p']:.2g}, n = {test['n']}"


def _seconds(result: Result) -> str:
    return f"{result['seconds_per_pass']:.0f} s / {result['slowest_pass']:.0f} s"


if __name__ == "__main__":
    main()
