"""The page that puts the paper's numbers beside ours: written from results, so that no number is typed in.

    python -m experiments.paper [--results docs/results] [--page docs/paper.md]

Results are what the experiments print: `python -m experiments.table1 ... > docs/results/table1.json`. A part
of the page whose experiment has no results yet, or only those of a quick run, says so. The paper's own
numbers are constants; whatever is reckoned from them is reckoned here.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.paper_prose import CAPTIONS, DIFFERS, INTRO
from experiments.running import Found
from experiments.significance import paired

# Table 1: accuracy in percent, four runs.
PUBLISHED_FIXED, PUBLISHED_RESIZED = (95.25, 95.22, 92.84, 93.98), (96.19, 94.86, 95.61, 96.16)
FIGURES = "figures"  # the folder of pictures, beside the page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--page", type=Path, default=Path("docs/paper.md"))
    options = parser.parse_args()
    options.page.write_text(page(results_in(options.results), options.page.parent))


def results_in(folder: Path) -> dict[str, Found]:
    """Experiment -> what it printed."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def page(results: Mapping[str, Found], folder: Path) -> str:
    """The whole page. folder: where it will lie; a picture is shown if it is there."""
    parts = [INTRO]
    for name, (title, command, write) in PARTS.items():
        found = results.get(name)
        never = [f"Not run in full yet: `{command}`."]
        body = never if found is None else [_run(found, command), *write(found)]
        pictures = [
            f"![{alt}]({FIGURES}/{file})"
            for file, alt in CAPTIONS.get(name, {}).items()
            if found is not None and (folder / FIGURES / file).is_file()
        ]
        paragraphs = [f"## {title}", *body, *pictures, DIFFERS.get(name, "")]
        parts.append("\n\n".join(filter(None, paragraphs)))
    return "\n\n".join(parts) + "\n"


def _run(found: Found, command: str) -> str:
    if "command" not in found:
        return f"`{command}`."
    quick = "A quick run, which is no evidence yet. " if found["quick"] else ""
    seeds = f"{found['seeds']} seed{'s' if found['seeds'] > 1 else ''}"
    code = f", code {found['code'][:12]}" if "code" in found else ""
    return f"{quick}`{found['command']}` ({seeds}, {found['minutes']:.0f} minutes of computing{code})."


def random_passes(found: Found) -> list[str]:
    every, last = found["every_pass"], found["last_pass"]
    ran = f"{found['seeds']} runs of {found['passes']} passes"
    rows = [
        ("runs", "5 runs, 54 points in all", ran),
        ("accuracy of what is held, closed-set, mean", "about 95 %", _share(found["retained"]) + " b"),
        ("the same, open-set", "not measured", _share(found["open"])),
        ("passes under 90 %", "2 of 54", _percent(found["passes_under_90"])),
        ("worst pass", "under 90 %", _percent(found["worst_pass"])),
        ("drift: last three passes less first three", "downwards in 3 of 5 runs", _points(found["drift"])),
        ("figure 3: under simple after the last pass, mean over labels", "-", _pp(last["mean_gap"])),
        ("figure 3: the worst label", "9 pp", _pp(last["worst_gap"])),
        (
            "worst relapse of a forgotten label, any later pass",
            "not measured",
            _percent(found["worst_relapse"]),
        ),
        ("seconds a pass, median / slowest", "939 s for 50,000 steps on a GPU (its log)", _seconds(found)),
    ]
    if every is not None:
        rows += [
            ("under simple after every pass, closed-set", "not measured", _points(every["gap"])),
            ("the same, open-set (bar: 1 pp)", "not measured", _points(every["open_gap"])),
            ("coverage, of simple's (bar: 0.95)", "not measured", _number(every["coverage_ratio"])),
            (
                "a forgotten label's draws, above a simple model's (bar: 2 pp)",
                "not measured",
                _points(every["relapse_above_simple"]),
            ),
            ("over 2 pp above it, of all such labels", "not measured", _percent(every["relapses_over_2_pp"])),
            (
                f"the same where another seed's simple model has the same labels "
                f"({every['by_chance']['n']} cases); and that model's",
                "not measured",
                f"{_percent(every['by_chance']['relapses_over_2_pp'])}; "
                f"{_percent(every['by_chance']['another_simple_over_2_pp'])}",
            ),
        ]
    return [_table(("", "the paper", "here"), rows)]


def auto_size(found: Found) -> list[str]:
    rows = [
        ("open-set accuracy", _percent(found["accuracy_fixed"]), _percent(found["accuracy"])),
        ("parameters, mean", f"{found['parameters_fixed']:,.0f}", f"{found['parameters']:,.0f}"),
        ("rank correlation of width and labels held", "-", f"{found['width_follows_labels']:.2f}"),
    ]
    return [_table(("", "fixed shares, as in the paper", "`auto`"), rows)]


def table1(found: Found) -> list[str]:
    published = paired(PUBLISHED_RESIZED, PUBLISHED_FIXED)
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
        for name, arm in found["arms"].items()
    ]
    heads = ("arm", "retained, closed-set", "open-set", "coverage", "forgotten", "seconds", "parameters")
    tests = [("the paper's table 1", _points(published, scale=1), _p(published), "-")]
    for name, one in found["compared"].items():
        closed = one["retained_closed"]
        named = f"`{one['arms'][0]}` - `{one['arms'][1]}` ({WHAT_IS_COMPARED[name]})"
        tests.append((named, _points(closed), _p(closed), _points(one["retained"])))
    budget = (
        f"Every arm but `service` took {_steps(found)}; Selective Amnesia was published with "
        f"{_steps(found['published'])}."
    )
    compared = ("difference", "closed-set", "paired t-test", "open-set")
    return [budget, _table(heads, arms), _table(compared, tests)]


def _steps(schedule: Mapping[str, Any]) -> str:
    rate = schedule["learning_rate"]
    return f"{schedule['steps']:,} steps of {schedule['batch_size']} examples at {rate:.1e}"


def clpu(found: Found) -> list[str]:
    same = found["identical"]
    rows = []
    for name in found["tests"]["forgotten"]:
        if name == "reference":
            continue
        forgotten = found["forgotten"].get(name)
        tests = [found["tests"][kind][name] for kind in ("forgotten", "retained")]
        rows.append(
            (
                f"`{name}`",
                *(f"{test['across'] / test['within']:.2f}, p = {test['p']:.2g}" for test in tests),
                _share(found["retained"][name]),
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
        f"Byte identity: {same['same']} of {same['of']} networks that learnt 2 and 3 for a time and dropped "
        "them have the very files of those that never saw them.",
        "Divergence is the mean across the group and the reference, over the mean within groups: 1 where "
        "they cannot be told apart. The smallest p there can be with so few networks is "
        f"{found['smallest_p']:.2g}.",
        _table(heads, rows),
    ]


def compression(found: Found) -> list[str]:
    shares = [f"{share:.0%}" for share in found["shares"]]
    rows = [
        (f"`{way}`", *(_share(point["open"]) for point in curve), f"{found['cliff'][way]:.0%}")
        for way, curve in found["curves"].items()
    ]
    compared = [
        (f"`{name.replace('-', '` - `')}`", *(_points(one) for one in tests))
        for name, tests in found["compared"].items()
    ]
    return [
        f"Open-set accuracy before: {_share(found['before'])}. Trainings took {found['steps']} steps.",
        _table(("units removed", *shares, "cliff"), rows),
        _table(("paired difference", *shares), compared),
    ]


def audit(found: Found) -> list[str]:
    """Of what `experiments.audit` prints, or of the file it writes."""
    strategies: Mapping[str, Found] = found.get("strategies", found)
    rows = [
        (
            f"`{name}`",
            str(one.get("labels", "-")),
            *(_with_spread(one, figure) for figure in AUDITED),
            _listed(one.get("bars_missed", ())),
            ": ".join([one["verdict"], *filter(None, [_listed(one.get("missed", ()), none="")])]),
        )
        for name, one in strategies.items()
    ]
    names = (name.replace("_", " ") for name in AUDITED)
    heads = ("strategy", "labels", *names, "plain bars missed", "verdict")
    controls = [one["control_auc"] for one in strategies.values() if one.get("control_auc") is not None]
    known = [f"Where members are known by heart the same attack has an AUC of {one:.3f}." for one in controls]
    return [_table(heads, rows), *known]


def _listed(names: Sequence[str], none: str = "none") -> str:
    return ", ".join(name.replace("_", " ") for name in names) or none


AUDITED = (
    "recovery_gap",
    "relearn_ratio",
    "membership_auc_gap",
    "membership_set_gap",
    "forgotten_accuracy",
    "retained_accuracy",
    "coverage_ratio",
)
WHAT_IS_COMPARED = {
    "same_ewc": "the same EWC in both",
    "confounded": "the paper's pair: EWC in one only",
    "pruning_alone": "resizing and nothing else",
    "service": "the service's default, at its own budget",
}
Part = tuple[str, str, Callable[[Found], list[str]]]
PARTS: dict[str, Part] = {
    "random_passes": (
        "Figures 3 and 4: ten random passes",
        "python -m experiments.random_passes --seeds 10 --passes 10",
        random_passes,
    ),
    "auto_size": ("A size that follows the labels", "python -m experiments.auto_size --seeds 10", auto_size),
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
    "audit": ("What the paper does not measure: is it gone?", "python -m experiments.audit", audit),
}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


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


def _seconds(found: Found) -> str:
    return f"{found['seconds_per_pass']:.0f} s / {found['slowest_pass']:.0f} s"


def _with_spread(one: Found, figure: str) -> str:
    if one.get(figure) is None:
        return "unmeasured"
    spread = one.get("spread", {}).get(figure)
    return f"{one[figure]:.3f}" if spread is None else f"{one[figure]:.3f} (s = {spread:.3f})"


if __name__ == "__main__":
    main()
