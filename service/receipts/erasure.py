"""Every place where something of a label can be, and what a forget did there: the middle of its receipt."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.drawing.decoders import CAPACITY, UNLOAD_SECONDS
from service.receipts.statement import Store
from service.registry.tables import JobRow, PurgeRow, VersionRow
from service.registry.version_files import COMPARED_DRAWS, before_file, forgotten_file


@dataclass(frozen=True)
class History:
    """A forget that published, and what came before it."""

    job: JobRow
    version: VersionRow
    parent: VersionRow | None
    older: Sequence[VersionRow]
    """Versions from before that list one of the labels, or were made after one learned it."""
    first_learned: int | None
    """The first version whose main network learned one of the labels; None when none ever did."""
    datasets: Sequence[str]
    """What the labels were learnt from."""
    purge: PurgeRow | None

    @property
    def guarantee(self) -> str:
        """Exact where the strategy states it of its result, else approximate: as it is where networks of
        their own were dropped, but the main one had learned one of the labels, whatever the report states."""
        found = self.version.report.get("findings", {}).get("guarantee")
        learned = self.isolated and self.first_learned is not None
        return "exact" if found == "exact" and not learned else "approximate"

    @property
    def isolated(self) -> bool:
        """Whether each of the labels had a network of its own, apart from the main one."""
        slots = {} if self.parent is None else self.parent.labels
        return all(name in slots and slots[name] is None for name in self.job.labels)


ALWAYS = {
    "optimiser state": ("never stored", "it lives in the worker's memory while a job trains, and in no file"),
    "replay": (
        "never stored",
        "the draws that training holds the retained labels with live in the worker's memory, and in no file",
    ),
    "HTTP caches": ("expire", "answered with max-age=60; what a client or a proxy saved is not known here"),
    "full reports": (
        "kept",
        "with the versions that were measured in full, and pictures of what attacks found in them; "
        "a purge deletes those of the versions it takes",
    ),
    "files no row names": (
        "not reached",
        "a job that was cancelled, outrun by a forget or killed can leave what it had stored: in no answer "
        "and no list of a purge; `palimpsest collect` deletes it",
    ),
    "recorded samples": (
        "refused",
        "each holds labels and a seed, no pixel; of these versions it answers 410",
    ),
    "judges": (
        "remain",
        "they and feature networks classify whole datasets, are used in no training, and still test for a relapse",
    ),
    "database": (
        "kept",
        "names, params, figures and hashes of models, jobs and versions; images in full reports alone",
    ),
    "logs": ("kept", "they name jobs, and labels where addresses of requests are logged"),
    "backups": ("not reached", "copies made of folders or of the database are outside this service"),
}


def stores(history: History) -> list[Store]:
    """Each store once, those that the forget changed first."""
    datasets = f"the real images in {', '.join(history.datasets)} are where they were"
    return [
        _weights(history),
        _fisher(history),
        _older_versions(history),
        _pictures(history),
        _decoder_caches(history),
        Store(store="datasets", state="remain", detail=datasets),
        *(Store(store=name, state=state, detail=detail) for name, (state, detail) in ALWAYS.items()),
    ]


def _weights(history: History) -> Store:
    number, learned = history.version.number, history.first_learned
    if history.isolated:
        before = (
            "the main network never learned them"
            if learned is None
            else f"the main network had learned one of them in version {learned}, and may descend from that"
        )
        detail = f"version {number} no longer has the networks these labels had of their own; {before}"
        return Store(store="weights", state="dropped", detail=detail)
    if history.guarantee == "exact":
        detail = f"version {number} was made from weights that never learned these labels"
        return Store(store="weights", state="made without", detail=detail)
    detail = (
        f"version {number} was changed by {history.job.strategy} so as not to draw these labels; it is kept, "
        f"with all that is made from it, although its weights descend from those that had learned them"
    )
    return Store(store="weights", state="changed", detail=detail)


def _fisher(history: History) -> Store:
    number, holds = history.version.number, any(slot is not None for slot in history.version.labels.values())
    if history.isolated:
        main = "the main network's is of its own labels" if holds else "the main network holds no label"
        detail = f"those of the dropped networks went with them; {main}"
        return Store(store="Fisher", state="dropped", detail=detail)
    if not holds:
        detail = f"the main network of version {number} holds no label, and there is no Fisher of it"
        return Store(store="Fisher", state="none", detail=detail)
    detail = f"version {number} remembers one taken anew over draws of the labels it retains"
    return Store(store="Fisher", state="made anew", detail=detail)


def _older_versions(history: History) -> Store:
    """Its state is that of the version the least was done to."""
    purged = [version.number for version in history.older if version.purged_by]
    revoked = [version.number for version in history.older if version.revoked_by and not version.purged_by]
    kept = [version.number for version in history.older if not version.revoked_by and not version.purged_by]
    said = [
        (purged, "files deleted but for report and manifest, every answer 410"),
        (revoked, "files kept, no longer drawn from or downloaded: 410"),
        (kept, "kept and served: made after the label was learned, and after it was forgotten once before"),
    ]
    detail = "; ".join(f"{_numbers(numbers)}: {words}" for numbers, words in said if numbers)
    state = "kept" if kept else "revoked" if revoked else "purged" if purged else "kept"
    return Store(store="older versions", state=state, detail=detail or "there are none")


def _pictures(history: History) -> Store:
    names = [name for name in map(forgotten_file, history.job.labels) if name in history.version.files]
    if not names:
        detail = "no network is left that could draw these labels"
        return Store(store="pictures of what is left", state="none", detail=detail)
    detail = (
        f"{', '.join(sorted(names))}: sixteen draws each, a file of version {history.version.number} and of "
        f"those made from it while the label stays forgotten; downloaded as evidence until a purge takes it"
    )
    stay = [name for name in sorted(history.version.labels) if before_file(name) in history.version.files]
    if stay:
        detail += (
            f". Of {', '.join(stay)}, which stay, {COMPARED_DRAWS} draws each of the version before are files "
            f"of version {history.version.number} alone, by weights that knew the labels: a purge takes them"
        )
    return Store(store="pictures of what is left", state="kept", detail=detail)


def _decoder_caches(history: History) -> Store:
    refused = (
        f"an API process keeps {CAPACITY} decoders in memory; that of a revoked version is not drawn from"
    )
    if history.purge is None:
        return Store(store="decoder caches", state="refused", detail=refused)
    gone = f"{refused}, and leaves memory within {UNLOAD_SECONDS:g} s of its file"
    return Store(store="decoder caches", state="dropped", detail=gone)


def _numbers(numbers: Sequence[int]) -> str:
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
