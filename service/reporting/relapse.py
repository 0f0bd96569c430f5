"""Find out whether forgotten labels stayed forgotten: the accuracy of each in every later version."""

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
    """Collect the accuracy of every forgotten label, version by version.

    versions: oldest first. Returns, by label, a point for each version in which the label is forgotten. The
    labels are in the order in which they were first forgotten.
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
