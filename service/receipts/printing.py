"""Print a verified receipt to a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from reports import LabelFigure, join_reasons
from service.receipts.deletion_statement import DeletionPredicate
from service.receipts.statement import Predicate, StoredFile
from service.receipts.verification import VerifiedReceipt
from service.registry.names import escape_unprintable


def print_receipt(console: Console, name: str, verified: VerifiedReceipt) -> None:
    """Print what the receipt says, then one line: that it is genuine, and by which key."""
    predicate = verified.statement.predicate
    summary = _deletion(predicate) if isinstance(predicate, DeletionPredicate) else _forget(predicate)
    console.print(summary, "", _erasure(predicate), "", escape_unprintable(predicate.meaning), "", sep="\n")
    parts = [f"{name} is genuine, signed by {verified.keyid[:16]}"]
    if verified.matching:
        parts.append(f"{len(verified.matching)} files match the receipt")
    if verified.missing:
        parts.append(f"missing, so not compared: {', '.join(verified.missing)}")
    console.print("; ".join(parts), style="green", soft_wrap=True)


def _deletion(predicate: DeletionPredicate) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("deleted model", escape_unprintable(f"{predicate.model.name} ({predicate.model.id})"))
    table.add_row("its labels", escape_unprintable(", ".join(predicate.labels) or "none"))
    if predicate.reference:
        table.add_row("reference", escape_unprintable(predicate.reference))
    table.add_row("files", _count_files(predicate.deleted, predicate.kept, "kept for other models"))
    table.add_row("finished", f"{predicate.finished_at:%Y-%m-%d %H:%M} UTC")
    return table


def _forget(predicate: Predicate) -> Table:
    request, version, figures, purge = (
        predicate.request,
        predicate.version,
        predicate.figures,
        predicate.purge,
    )
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")  # a hash is printed to its end
    table.add_row(
        "labels", escape_unprintable(f"{', '.join(request.labels)} of model {predicate.model.name}")
    )
    table.add_row("strategy", escape_unprintable(f"{request.strategy}, seed {request.seed}"))
    if predicate.package:
        table.add_row("package", escape_unprintable(f"{predicate.package.name} {predicate.package.version}"))
    table.add_row("guarantee", predicate.guarantee)
    if request.reference:
        table.add_row("reference", escape_unprintable(request.reference))
    table.add_row("code", escape_unprintable(predicate.code or "-"))
    table.add_row("job", escape_unprintable(predicate.job))
    table.add_row("published", f"version {version}, {predicate.published_at:%Y-%m-%d %H:%M} UTC")
    for which, figure in (("retained", figures.retained), ("forgotten", figures.forgotten)):
        table.add_row(f"accuracy of the {which} labels", escape_unprintable(_accuracy(figure)))
    if figures.criteria:
        met = sum(one.verdict == "met" for one in figures.criteria)
        reasons = join_reasons(figures.criteria)
        table.add_row(
            "criteria",
            escape_unprintable(f"{met} of {len(figures.criteria)} met{f'; {reasons}' if reasons else ''}"),
        )
    else:
        table.add_row("criteria", "none was set: the version did not have to meet any limit")
    for deleted in predicate.image_erasure.datasets if predicate.image_erasure else ():
        images = f"{sum(deleted.labels.values())} images of {', '.join(deleted.labels)}"
        kept = ", but another dataset has the same file" if deleted.kept else ""
        kept += f", but {deleted.remains}" if deleted.remains else ""
        table.add_row("deleted from", escape_unprintable(f"dataset {deleted.dataset}: {images}{kept}"))
    for found in predicate.elsewhere.models if predicate.elsewhere else ():
        table.add_row("also held by", escape_unprintable(f"model {found.name}, as label {found.label}"))
    for upload in predicate.elsewhere.datasets if predicate.elsewhere else ():
        table.add_row("also held by", escape_unprintable(f"dataset {upload.dataset}, label {upload.label}"))
    if purge:
        table.add_row(
            "purged",
            _count_files(purge.deleted, purge.kept, "kept because another version needs them"),
        )
    return table


def _count_files(deleted: Sequence[StoredFile], kept: Sequence[StoredFile], why: str) -> str:
    """Say how many files were deleted and kept. why: that, of those that something else needs."""
    left = [file for file in kept if file.reason is not None]
    text = f"{len(deleted)} files deleted, {len(kept) - len(left)} {why}"
    if left:
        text += f", of {len(left)} a bucket keeps old versions: {escape_unprintable(left[0].reason or '')}"
    return text


def _erasure(predicate: Predicate | DeletionPredicate) -> Table:
    table = Table("store", "state", "what happened there", box=None, padding=(0, 2, 0, 0))
    for entry in predicate.erasure:
        table.add_row(*(escape_unprintable(cell) for cell in (entry.store, entry.state, entry.detail)))
    return table


def _accuracy(figure: LabelFigure) -> str:
    if figure.value is None:
        return f"not measured: {figure.reason or 'the receipt gives no reason'}"
    interval = figure.interval
    with_interval = f", 95 % interval {interval[0]:.2%} to {interval[1]:.2%}" if interval else ""
    no_verdict = f"; no verdict: {figure.reason}" if figure.reason else ""
    return (
        f"{figure.value:.2%} of {figure.n} drawn images recognised as their label{with_interval}{no_verdict}"
    )
