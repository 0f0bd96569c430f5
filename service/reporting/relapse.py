"""Whether what was forgotten stayed forgotten: each forgotten label, as every later version drew it."""

from collections.abc import Iterable

from reports import Figure, Threshold, read_report
from service.registry.tables import VersionRow


class RelapsePoint(Figure):
    """How often one version's draws of a forgotten label were judged to be that label."""

    threshold: Threshold | None
    version: int
    operation: str
    strategy: str


def relapse_series(versions: Iterable[VersionRow]) -> dict[str, list[RelapsePoint]]:
    """Follow every forgotten label through the versions, given oldest first.

    Returns a point for each version that had forgotten the label, by label, in the order the labels were
    first forgotten.
    """
    series: dict[str, list[RelapsePoint]] = {}
    for version in versions:
        for name, figure in read_report(version.report).forgotten.labels.items():
            point = RelapsePoint(
                version=version.number,
                operation=version.operation,
                strategy=version.strategy,
                value=figure.value,
                n=figure.n,
                interval=figure.interval,
                threshold=figure.threshold,
                verdict=figure.verdict,
                reason=figure.reason,
            )
            series.setdefault(name, []).append(point)
    return series
