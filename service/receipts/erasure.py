"""What a forget did in every store where something of a label can be: the middle of its receipt."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from reports import Guarantee, Report, read_report
from service.drawing.decoders import MAX_LOADED_DECODERS, UNLOAD_SECONDS
from service.receipts.statement import ErasureEntry
from service.registry.tables import JobRow, PurgeRow, VersionRow
from service.registry.version_files import COMPARED_DRAWS, before_file, forgotten_file


@dataclass(frozen=True)
class ForgetHistory:
    """A forget that published a version, and what came before it."""

    job: JobRow
    version: VersionRow
    parent: VersionRow | None
    older: Sequence[VersionRow]
    """Versions from before that hold one of the labels, or were made after one learned it."""
    first_learned: int | None
    """The first version whose main network learned one of the labels; None when none ever did."""
    datasets: Sequence[str]
    """What the labels were learned from."""
    purge: PurgeRow | None

    @cached_property
    def report(self) -> Report:
        """What was measured of the version before it was published."""
        return read_report(self.version.report)

    @property
    def guarantee(self) -> Guarantee:
        """What the receipt guarantees: exact only if the report says so and no earlier weights are involved.

        Dropping a label's own network is exact of that network. If the main network once learned the label
        as well, the version as a whole is approximate, whatever the report says.
        """
        main_network_learned_it = self.is_isolated and self.first_learned is not None
        return "exact" if self.report.guarantee == "exact" and not main_network_learned_it else "approximate"

    @property
    def is_isolated(self) -> bool:
        """Whether each of the labels had a network of its own, apart from the main one."""
        slots = {} if self.parent is None else self.parent.labels
        return all(name in slots and slots[name] is None for name in self.job.labels)


SAME_FOR_EVERY_FORGET = {
    "optimiser state": (
        "never stored",
        "The state of the optimiser is in the worker's memory while a job trains. It is written to no file.",
    ),
    "replayed images": (
        "never stored",
        "To keep the retained labels, training draws images of them in the worker's memory. They are written "
        "to no file.",
    ),
    "HTTP caches": (
        "expire",
        "Answers carry max-age=60, so a cache keeps them for a minute. Copies that a client or a proxy saved "
        "on purpose are not known to this service.",
    ),
    "full reports": (
        "kept",
        "Full reports of earlier versions are kept, and with them pictures of what attacks found in those "
        "versions. A purge deletes the full reports of the versions whose files it deletes.",
    ),
    "files without a version": (
        "not reached",
        "A job that was cancelled, killed or overtaken by a forget can leave files that it had stored. They "
        "are part of no answer, and no purge lists them. The command `palimpsest collect` deletes them.",
    ),
    "recorded samples": (
        "refused",
        "A recorded sample holds labels and a seed, and no pixel. For a version that may not draw any more, "
        "the answer is 410.",
    ),
    "judges and feature networks": (
        "kept",
        "These classifiers are trained on whole datasets. No generative model is trained with them. They are "
        "kept to test later versions for a relapse.",
    ),
    "database": (
        "kept",
        "The database keeps names, parameters, figures and hashes of models, jobs and versions. The only "
        "images in it are those in full reports.",
    ),
    "logs": (
        "kept",
        "Logs name jobs. Where addresses of requests are logged, they name labels, too.",
    ),
    "backups": (
        "not reached",
        "Copies of folders or of the database that somebody made are outside this service.",
    ),
}
"""State and detail of the stores that every forget leaves as they are, by store."""


def erasure_by_store(history: ForgetHistory) -> list[ErasureEntry]:
    """List every store once, those that the forget changed first."""
    return [
        _weights(history),
        _fisher(history),
        _older_versions(history),
        _pictures(history),
        _decoder_caches(history),
        _datasets(history),
        *(
            ErasureEntry(store=store, state=state, detail=detail)
            for store, (state, detail) in SAME_FOR_EVERY_FORGET.items()
        ),
    ]


def _weights(history: ForgetHistory) -> ErasureEntry:
    number, learned = history.version.number, history.first_learned
    if history.is_isolated:
        detail = f"Version {number} no longer has the networks that these labels had of their own. "
        if learned is None:
            detail += "The main network never learned these labels."
        else:
            detail += (
                f"The main network had learned one of these labels in version {learned}, and its weights may "
                "descend from that version."
            )
        return ErasureEntry(store="weights", state="dropped", detail=detail)
    if history.guarantee == "exact":
        detail = f"Version {number} was made from weights that never learned these labels."
        return ErasureEntry(store="weights", state="made without", detail=detail)
    detail = (
        f"Version {number} was changed by {history.job.strategy} so that it does not draw these labels. Its "
        "weights descend from weights that had learned them. The version is kept, and so is every version "
        "made from it."
    )
    return ErasureEntry(store="weights", state="changed", detail=detail)


def _fisher(history: ForgetHistory) -> ErasureEntry:
    store, number = "Fisher information", history.version.number
    holds_label = any(slot is not None for slot in history.version.labels.values())
    if history.is_isolated:
        detail = "The Fisher information of the dropped networks was deleted from the version with them. "
        if holds_label:
            detail += "That of the main network was computed for other labels."
        else:
            detail += "The main network holds no label."
        return ErasureEntry(store=store, state="dropped", detail=detail)
    if not holds_label:
        detail = f"The main network of version {number} holds no label, so it has no Fisher information."
        return ErasureEntry(store=store, state="none", detail=detail)
    detail = f"Version {number} has one that was computed anew, from images drawn of the labels it retains."
    return ErasureEntry(store=store, state="made anew", detail=detail)


def _older_versions(history: ForgetHistory) -> ErasureEntry:
    """The state is that of the version to which the least was done."""
    purged = [version.number for version in history.older if version.purged_by]
    revoked = [version.number for version in history.older if version.revoked_by and not version.purged_by]
    kept = [version.number for version in history.older if not version.revoked_by and not version.purged_by]
    sentences = [
        (
            purged,
            "The files are deleted, but for report and manifest; anything else is answered 410.",
        ),
        (revoked, "The files are kept, and can neither be drawn from nor downloaded: the answer is 410."),
        (kept, "Kept and served: made after a label was learned, and after it was forgotten once before."),
    ]
    detail = " ".join(f"{_versions(numbers)}: {sentence}" for numbers, sentence in sentences if numbers)
    state = "kept" if kept else "revoked" if revoked else "purged" if purged else "kept"
    return ErasureEntry(store="older versions", state=state, detail=detail or "There are none.")


def _pictures(history: ForgetHistory) -> ErasureEntry:
    store, number = "pictures of forgotten labels", history.version.number
    names = [name for name in map(forgotten_file, history.job.labels) if name in history.version.files]
    if not names:
        detail = "No network is left that could draw these labels."
        return ErasureEntry(store=store, state="none", detail=detail)
    detail = (
        f"{', '.join(sorted(names))}: sixteen draws each, as evidence of what is left. They are files of "
        f"version {number}, and of versions made from it while the label stays forgotten. They can be "
        "downloaded until a purge deletes them."
    )
    retained = [name for name in sorted(history.version.labels) if before_file(name) in history.version.files]
    if retained:
        detail += (
            f" Files of version {number} alone also show {COMPARED_DRAWS} draws of each of "
            f"{', '.join(retained)}, which are retained, by the version before. The weights that drew them "
            "had learned the forgotten labels, so a purge deletes these files."
        )
    return ErasureEntry(store=store, state="kept", detail=detail)


def _decoder_caches(history: ForgetHistory) -> ErasureEntry:
    detail = (
        f"A process of the API keeps up to {MAX_LOADED_DECODERS} decoders in memory. It draws nothing from "
        "the decoder of a revoked version"
    )
    if history.purge is None:
        return ErasureEntry(store="decoder caches", state="refused", detail=f"{detail}.")
    detail += f", and removes it from memory within {UNLOAD_SECONDS:g} s after its file is deleted."
    return ErasureEntry(store="decoder caches", state="dropped", detail=detail)


def _datasets(history: ForgetHistory) -> ErasureEntry:
    detail = f"The real images of the datasets {', '.join(history.datasets)} are unchanged."
    return ErasureEntry(store="datasets", state="kept", detail=detail)


def _versions(numbers: Sequence[int]) -> str:
    return f"Version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
