"""Write docs/datasets.md, which shows the default strategies on every dataset.

python -m experiments.datasets_page [--results docs/results/datasets.json] [--page docs/datasets.md]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.remarks import REMARKS
from experiments.running import Result

RATIO_BAR, FORGOTTEN_BAR = 0.96, 0.02
COLUMNS = (
    "dataset",
    "job",
    "accuracy",
    "of real",
    "decoder's limit",
    "ratio to it",
    "worst label",
    "relative coverage",
    "the decoder's",
    "forgotten",
    "seconds",
    "parameters",
)
INTRO = """
# The defaults on every dataset

Written by `make pages` from `results/datasets.json`; do not edit by hand. `python -m experiments.datasets`
measures it again, and `--upload FILE` measures a file as the API takes it.

A model with default params learns five labels, learns three more, forgets two and is pruned. Of the dataset
with many labels it learns three times eighteen and forgets three. After each job, {draws} draws of each label
(of many labels: {draws_of_many}) are classified by a network that is not the product's judge: it has another
architecture and another training, and is trained on real images. An upload made of a collection's test images
is measured with images of the collection's train split, so that neither the model nor the classifier has seen
them.
"""
EXPLAINED = """
- **accuracy**: the share of draws whose likeliest label is theirs; mean over the labels held.
- **of real**: accuracy divided by the classifier's accuracy on real images that nobody was trained on. A
  classifier that errs lowers both alike.
- **decoder's limit**: the accuracy of draws from the posteriors of real training images. No prior can do much
  better with this decoder.
- **ratio to it**: accuracy divided by that limit. The bar is {ratio_bar} at every job.
- **relative coverage**: the share of unseen real images with a draw among their nearest neighbours, divided
  by what as many of the training images cover. It does not depend on how many images there are, so it
  compares between datasets: about 1 is as varied as the real images.
- **the decoder's**: the relative coverage of draws from the posteriors of real training images, of which
  there may be few. What it lacks of 1 is lost in the decoder, and not in the prior.
- **forgotten**: the share of a forgotten label's draws that the classifier takes for it, where it may also
  answer that an image shows no label; of the label for which it is highest. The bar is {forgotten_bar}.
- **seconds**: of the strategy alone, on one thread.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    results = Path("docs/results/datasets.json")
    parser.add_argument("--results", type=Path, default=results, help="file to read; %(default)s")
    parser.add_argument("--page", type=Path, default=Path("docs/datasets.md"), help="file; %(default)s")
    options = parser.parse_args()
    options.page.write_text(page(read_result(options.results)))


def read_result(file: Path) -> Result | None:
    """Return the result in a file; None if there is no such file."""
    if not file.is_file():
        return None
    result: Result = json.loads(file.read_text())
    return result


def page(result: Result | None) -> str:
    """Return the text of the page; without a result it says which command measures one."""
    if result is None:
        return "# The defaults on every dataset\n\nNot run in full yet: `python -m experiments.datasets`.\n"
    draws = [one["draws"] for one in result["datasets"]]
    intro = INTRO.format(draws=f"{max(draws):,}", draws_of_many=f"{min(draws):,}")
    explained = EXPLAINED.format(ratio_bar=RATIO_BAR, forgotten_bar=_percent(FORGOTTEN_BAR))
    remark = REMARKS.get(result["code"][:12], "")
    sections = [
        *filter(None, (intro, remark)),
        _verdict(result),
        _table(result["datasets"]),
        explained,
        *_classifiers(result),
    ]
    return "\n\n".join(section.strip() for section in [*sections, _provenance(result)]) + "\n"


def _verdict(result: Result) -> str:
    """Say which jobs miss a bar."""
    rows = [(one, row) for one in result["datasets"] for row in one["rows"]]
    ratio = [f"{_job_name(row)} on {one['name']} ({row['ratio']:.3f})" for one, row in rows if _is_low(row)]
    forgotten = [
        f"{_job_name(row)} on {one['name']} ({_percent(row['forgotten'])})"
        for one, row in rows
        if row["forgotten"] is not None and row["forgotten"] > FORGOTTEN_BAR
    ]
    return "\n".join(
        (
            f"- Ratio to the decoder's limit at least {RATIO_BAR}: {_all_or_but(len(rows), ratio)}",
            f"- Forgotten at most {_percent(FORGOTTEN_BAR)}: "
            f"{_all_or_but(sum(row['forgotten'] is not None for _, row in rows), forgotten)}",
        )
    )


def _is_low(row: Mapping[str, Any]) -> bool:
    return bool(row["ratio"] < RATIO_BAR)


def _all_or_but(count: int, missed: Sequence[str]) -> str:
    exceptions = f"; not after {', '.join(missed)}" if missed else ""
    return f"after {count - len(missed)} of {count} jobs{exceptions}."


def _table(datasets: Sequence[Result]) -> str:
    rows = [_cells(one, row) for one in datasets for row in one["rows"]]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(dataset: Result, row: Result) -> list[str]:
    is_first = row is dataset["rows"][0]
    return [
        dataset["title"] if is_first else "",
        _job_name(row),
        _percent(row["accuracy"]),
        _percent(row["relative"]),
        _percent(row["posterior"]),
        f"{row['ratio']:.3f}",
        _percent(row["worst_label"]),
        *(
            "-" if row[name] is None else f"{row[name]:.3f}"
            for name in ("relative_coverage", "posterior_relative_coverage")
        ),
        "-" if row["forgotten"] is None else _percent(row["forgotten"]),
        f"{row['seconds']:.1f}",
        f"{row['parameters']:,}",
    ]


def _job_name(row: Mapping[str, Any]) -> str:
    return f"{row['operation']} {len(row['labels'])}" if row["labels"] else "prune"


def _classifiers(result: Result) -> list[str]:
    """Say what the classifiers were trained on, and how good they are."""
    found = {one["classifier"]["name"]: one["classifier"] for one in reversed(result["datasets"])}
    lines = [
        f"- `{name}`: trained on {one['images']:,} images, {one['steps']:,} steps; recognises "
        f"{_percent(one['accuracy'])} of unseen real images."
        for name, one in reversed(found.items())
    ]
    return ["## The classifiers", "\n".join(lines)]


def _provenance(result: Result) -> str:
    quick = "A quick run, which proves nothing. " if result["quick"] else ""
    code = result["code"][:12]
    return (
        f"{quick}`{result['command']}` (one seed, {result['minutes']:.0f} minutes on one core, code {code})."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
