"""A receipt that was found genuine, for a person at a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from service.receipts.statement import Predicate
from service.receipts.verification import Checked


def tell(console: Console, name: str, checked: Checked) -> None:
    """What the receipt says, then one line: that it is genuine, and by which key."""
    predicate = checked.statement.predicate
    console.print(_asked(predicate), "", _happened(predicate), "", predicate.says, "", sep="\n")
    said = [f"{name} is genuine, signed by {checked.keyid[:16]}"]
    if checked.matching:
        said.append(f"{len(checked.matching)} files are those it names")
    if checked.missing:
        said.append(f"not there to be compared: {', '.join(checked.missing)}")
    console.print("; ".join(said), style="green", soft_wrap=True)


def _asked(predicate: Predicate) -> Table:
    asked, version, purge = predicate.asked, predicate.version, predicate.purge
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")  # a hash is told to its end
    table.add_row("forgotten", f"{', '.join(asked.labels)} of model {predicate.model.name}")
    table.add_row("by", f"{asked.strategy}, {predicate.guarantee}, seed {asked.seed}")
    table.add_row("run by", predicate.code or "-")
    table.add_row("in", f"version {version}, {predicate.published_at:%Y-%m-%d %H:%M} UTC, {predicate.job}")
    for group, drawn in (("retained", "labels kept"), ("forgotten", "labels forgotten")):
        table.add_row(drawn, _figure(predicate.figures.get(group, {})))
    if criteria := predicate.figures.get("criteria"):
        met = sum(one["verdict"] == "met" for one in criteria)
        table.add_row("criteria", f"{met} of {len(criteria)} met")
    else:
        table.add_row("criteria", "none was set: nothing was held against a limit")
    if purge:
        table.add_row("purged", f"{len(purge.keys_gone)} files gone, {len(purge.keys_kept)} kept for others")
    return table


def _happened(predicate: Predicate) -> Table:
    table = Table("store", "state", "what happened there", box=None, padding=(0, 2, 0, 0))
    for store in predicate.stores:
        table.add_row(store.store, store.state, store.detail)
    return table


def _figure(group: dict[str, Any]) -> str:
    if group.get("accuracy") is None:
        return f"not measured: {group.get('reason', 'nothing was')}"
    interval = group.get("interval")
    width = f", 95 % interval {interval[0]:.2%} to {interval[1]:.2%}" if interval else ""
    return f"{group['accuracy']:.2%} of {group.get('n', '?')} draws judged to be their label{width}"
