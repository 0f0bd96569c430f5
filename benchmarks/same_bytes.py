"""Check that results did not change since a commit: the same requests to both must give the same bytes.

    python -m benchmarks.same_bytes HEAD~1 --json -

REVISION is checked out into a temporary folder. Its service and that of the working tree run one after the
other, each as a deployment of its own, and are sent the same requests over HTTP: one history of a network of
the default size, and for each strategy in the catalog one history of a tiny network of each architecture.
The checkpoints, decoders, pictures, drawn images, samples, labels, widths and reports of every version are
compared. Uncommitted changes of the working tree are included; do not edit it while this runs.

Of PNG files the pixels are compared.

Exit code 1: a file, an image or a figure that the first tree has is missing or differs in the second.
Exit code 2: there was nothing to compare, because a service did not start.
A renamed file, a renamed key of a report and what is new are listed, but do not count as differences.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.comparing import Comparison, Record, compare
from benchmarks.output import write_table_and_figures
from benchmarks.recording import JobFailed, Recorder, histories
from benchmarks.trees import TreeFailed, check_out, git, package_names, serve


def main() -> int:
    """Compare both trees, and return the exit status."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        commit = git("rev-parse", "--verify", f"{options.revision}^{{commit}}")
        first, second = _record_both(commit, options)
    except (TreeFailed, JobFailed, httpx2.HTTPError, OSError) as error:
        sys.stderr.write(f"same_bytes: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    found, added = compare_all(first, second)
    seconds = round(time.monotonic() - began, 1)
    figures = {
        "revision": commit,
        "dataset": options.dataset,
        "steps": None if options.quick else options.steps,
        "seconds": seconds,
        "versions": len(found),
        "same": sum(one.same for one in found),
        "compared": sum(one.compared for one in found),
        "added": added,
        "jobs": [_as_json(one) for one in found],
    }
    write_table_and_figures(table(found, added), figures, options.json)
    return 0 if all(one.same for one in found) else 1


def compare_all(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Comparison], list[str]]:
    """Compare each job of the first tree with the second's; also return the jobs that only the second has."""
    after = {record.job: record for record in second}
    before = {record.job for record in first}
    return [compare(record, after.get(record.job)) for record in first], [
        record.job for record in second if record.job not in before
    ]


def table(found: Sequence[Comparison], added: Sequence[str]) -> str:
    """Return a line for each job, then all differences and notes, and a summary in the last line."""
    rows = [("job", "version", "compared", "result")]
    for one in found:
        rows.append(
            (one.job, str(one.version or "-"), str(one.compared), "same" if one.same else "DIFFERENT")
        )
    width = max(len(row[0]) for row in rows)
    lines = [
        f"{job:{width}}  {version:>7}  {compared:>8}  {result}" for job, version, compared, result in rows
    ]
    for title, attribute in (("Differences", "differences"), ("Notes", "notes")):
        jobs_for: dict[str, list[str]] = {}  # the same change is often in many versions; print it once
        for one in found:
            for text in getattr(one, attribute):
                jobs_for.setdefault(text, []).append(one.job)
        lines += ["", f"{title}:"] if jobs_for else []
        for text, jobs in jobs_for.items():
            lines.append(f"  {text}  ({jobs[0]}{f' and {len(jobs) - 1} more' if len(jobs) > 1 else ''})")
    lines += [f"  only in the second tree: {job}" for job in added]
    same, compared = sum(one.same for one in found), sum(one.compared for one in found)
    counted = f"{compared} files, images and documents compared"
    lines += ["", f"same: {same} of {len(found)} versions and evaluations; {counted}"]
    return "\n".join(lines) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", nargs="?", default="HEAD~1", help="commit to compare with; %(default)s")
    parser.add_argument("--json", help="file for the figures, - for the terminal")
    dataset = "mnist" if os.environ.get("PALIMPSEST_DATA") else "digits"
    parser.add_argument("--dataset", default=dataset, help="mnist if PALIMPSEST_DATA is set, else digits")
    parser.add_argument(
        "--steps", type=int, default=300, help="steps of each training of a default network; %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks only, no evaluation")
    return parser.parse_args()


def _record_both(commit: str, options: argparse.Namespace) -> tuple[list[Record], list[Record]]:
    """Return the records of the commit, and those of the working tree."""
    here = Path(git("rev-parse", "--show-toplevel"))
    with tempfile.TemporaryDirectory(prefix="same-bytes-") as folder:
        temporary = Path(folder)
        with check_out(commit, temporary / "tree") as tree:
            other_packages = package_names(tree) | package_names(here)

            def recorded(name: str, one: Path) -> list[Record]:
                with serve(one, temporary / name, other_packages) as url:
                    return _records(url, options, lambda line: sys.stderr.write(f"{name}  {line}\n"))

            return recorded("first", tree), recorded("second", here)


def _records(url: str, options: argparse.Namespace, on_progress: Callable[[str], Any]) -> list[Record]:
    recorder = Recorder(url, options.dataset, on_progress)
    requested = histories(recorder.catalog(), options.dataset, options.steps, quick=options.quick)
    return [record for number, history in enumerate(requested) for record in recorder.record(number, history)]


def _as_json(one: Comparison) -> dict[str, Any]:
    return {
        "job": one.job,
        "version": one.version,
        "compared": one.compared,
        "same": one.same,
        "differences": list(one.differences),
        "notes": list(one.notes),
    }


if __name__ == "__main__":
    sys.exit(main())
