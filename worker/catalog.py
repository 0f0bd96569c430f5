"""Write service/requests/catalog.json: the strategies, datasets and architectures that a request may name.

python -m worker.catalog            write it
python -m worker.catalog --check    fail if the committed one is out of date
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service import requests
from worker.learning import datasets
from worker.learning.datasets import DatasetInfo
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.full_report import measure_full_report
from worker.learning.networks import ARCHITECTURES, Architecture
from worker.learning.package import Package
from worker.learning.strategy import Strategy, built_in_strategies

CATALOG = Path(requests.__file__).with_name("catalog.json")


def main(arguments: list[str]) -> int:
    """Write the catalog, or with --check compare it with the committed one. Returns the exit code."""
    written = json.dumps(catalog(), indent=2) + "\n"
    if arguments == ["--check"]:
        if CATALOG.is_file() and CATALOG.read_text(encoding="utf-8") == written:
            return 0
        sys.stderr.write(
            f"{CATALOG} is out of date: it differs from what worker/learning declares; run: make catalog\n"
        )
        return 1
    if arguments:
        sys.stderr.write("usage: python -m worker.catalog [--check]\n")
        return 2
    CATALOG.write_text(written, encoding="utf-8")
    return 0


def catalog() -> dict[str, Any]:
    """Return what is built in: strategies, datasets and architectures, each with the schema of its params."""
    return {
        "strategies": [*map(describe_strategy, built_in_strategies()), _evaluation()],
        "datasets": [describe_dataset(one) for one in datasets.catalog() if one.package is None],
        "architectures": [
            describe_architecture(one) for one in ARCHITECTURES.values() if one.package is None
        ],
    }


def describe_strategy(one: Strategy) -> dict[str, Any]:
    """Return the entry of a strategy in the catalog."""
    return {
        "operation": one.operation,
        "name": one.name,
        "policy": one.policy,
        "retention": one.retention,
        "default": one.default,
        "needs_examples": one.needs_examples,
        "merges_temporary": one.merges_temporary,
        "guarantee": one.guarantee,
        "architectures": None if one.architectures is None else list(one.architectures),
        "summary": one.summary,
        "source": one.source,
        "params": one.Params.model_json_schema(),
    } | _package(one.package)


def describe_dataset(one: DatasetInfo) -> dict[str, Any]:
    """Return the entry of a dataset in the catalog."""
    return {
        "name": one.name,
        "title": one.title,
        "labels": list(one.labels),
        "image_shape": list(one.image_shape),
        "bundled": one.bundled,
        "files": None if one.files is None else asdict(one.files),
    } | _package(one.package)


def describe_architecture(one: Architecture) -> dict[str, Any]:
    """Return the entry of an architecture in the catalog."""
    return {
        "name": one.name,
        "summary": one.summary,
        "params": one.Params.model_json_schema(),
    } | _package(one.package)


def _package(package: Package | None) -> dict[str, Any]:
    return {} if package is None else {"package": asdict(package)}


def _evaluation() -> dict[str, Any]:
    """Return the entry of the full evaluation. The service checks its params as it checks a strategy's."""
    return {
        "operation": "evaluate",
        "name": "full",
        "policy": None,
        "retention": "permanent",
        "default": True,
        "needs_examples": False,
        "merges_temporary": False,
        "guarantee": None,
        "summary": (measure_full_report.__doc__ or "").strip().splitlines()[0],
        "source": "each module of worker/learning/judging cites the paper its figure is from",
        "params": FullParams.model_json_schema(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
