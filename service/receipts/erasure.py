"""What a forget did to each store that can hold data of a label, in the sentences that its receipt prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reports import Guarantee, Report, read_report
from service.drawing.decoders import BUCKET_UNLOAD_SECONDS, MAX_LOADED_DECODERS, UNLOAD_SECONDS
from service.drawing.image_cache import MAX_CACHED_BYTES
from service.receipts.statement import ErasureEntry, OlderState
from service.registry.export_clearing import summarise_removed
from service.registry.idempotency import KEPT_HOURS
from service.registry.store import LINK_SECONDS
from service.registry.tables import ExportRow, ImageErasureRow, JobRow, PurgeRow, VersionRow
from service.registry.version_files import COMPARED_DRAWS, before_file, forgotten_file
from service.registry.webhooks import KEPT_DAYS

RETRAIN = "retrain"
"""The strategy that makes the main network anew, even if the labels had networks of their own."""


@dataclass(frozen=True)
class ForgetHistory:
    """A forget that published a version, and what came before it."""

    job: JobRow
    version: VersionRow
    parent: VersionRow | None
    older: Sequence[VersionRow]
    """Earlier versions that hold one of the labels, or were made after a version that learned one of them."""
    first_learned: int | None
    """The first version whose main network learned one of the labels; None when none ever did."""
    datasets: Sequence[str]
    """Names of the datasets that the labels were learned from."""
    purge: PurgeRow | None
    """None if the files of the older versions were not to be deleted."""
    exports: Sequence[ExportRow] = ()
    """The exports of versions that hold one of the labels, or that the forget revoked or purged. Their files
    are deleted."""
    image_erasure: ImageErasureRow | None = None
    """None if the images of the labels were not to be deleted from uploaded datasets."""
    is_in_bucket: bool = False
    """Whether files are objects in a bucket, not files in a folder."""
    has_fisher_stored: bool | None = None
    """Whether the file of the version's weights has Fisher information, too, as those of release 0.1.0 have.
    None if it is unknown, because the manifest cannot be read."""

    @cached_property
    def report(self) -> Report:
        """The quick report, measured before the version was published."""
        return read_report(self.version.report)

    @property
    def guarantee(self) -> Guarantee:
        """Whether the receipt may say `exact`.

        The report says `exact` as well when it is about a label's own network, which was dropped. If the main
        network once learned the same label, the version as a whole is approximate.
        """
        main_network_learned_it = self.is_isolated and self.first_learned is not None
        return "exact" if self.report.guarantee == "exact" and not main_network_learned_it else "approximate"

    @property
    def is_isolated(self) -> bool:
        """Whether each of the labels had a network of its own, and the main network was not changed."""
        if self.job.strategy == RETRAIN:
            return False
        slots = {} if self.parent is None else self.parent.labels
        return all(name in slots and slots[name] is None for name in self.job.labels)

    @property
    def is_deleted(self) -> bool:
        """Whether the files of the version were deleted later: another forget purged it, or a client did."""
        return older_state(self.version) in ("purged", "deleted")


NAMES_IN_RECORDS = {
    "job events": (
        "kept",
        "What happened to a job is kept as a list of events. Lines for the client in it may name labels. "
        "They contain no image. Events of jobs that have ended are deleted after the time that this "
        "deployment sets, if it sets one.",
    ),
    "webhook messages": (
        "kept",
        "Messages to the webhooks of the project name labels that were forgotten or are drawn again. Those "
        f"that were delivered or given up are deleted {KEPT_DAYS} days after they were made. What their "
        "receivers keep is outside this service.",
    ),
    "idempotency keys": (
        "kept",
        "For each request with an Idempotency-Key, the database keeps the key as the client chose it, a hash "
        "of the request, the status of the answer and the id of the resource, and a hash of each label that "
        "was forgotten already. No name of a label is kept here, but whoever guesses one can compare its "
        f"hash. They are deleted after {KEPT_HOURS} hours.",
    ),
    "audit log": (
        "kept",
        "The audit log says who requested what. It names the labels of jobs and of deleted images, and the "
        "client's references. Its entries are never deleted, because each is sealed with the one before.",
    ),
    "erasure log": (
        "kept",
        "A file apart from the database lists the labels that were forgotten, and the labels whose images "
        "were deleted, by their names. It is kept so that a service that is restored from a backup forgets "
        "them again.",
    ),
    "logs": (
        "kept",
        "Logs contain ids of jobs, models, versions and deletions, and no labels, with two exceptions: the "
        "addresses of requests, if these are logged, and the texts of unexpected errors.",
    ),
}
"""State and detail by store, for the stores that contain names of labels, or could, and nothing else."""

SAME_FOR_EVERY_FORGET = {
    "optimiser state": (
        "not kept",
        "The state of the optimiser is in the worker's memory and in the snapshots of a job while it runs. "
        "No version contains it.",
    ),
    "replayed images": (
        "not kept",
        "To keep the retained labels, training draws images of them in the worker's memory. Apart from the "
        "snapshots of a job while it runs, they are written to no file.",
    ),
    "snapshots": (
        "deleted",
        "While a job runs, its newest training state is kept in a file, so that it can continue after an "
        "interruption. The file is deleted when the job ends, however it ends.",
    ),
    "HTTP caches": (
        "expire",
        "Responses tell HTTP caches to keep them for 60 seconds at most. This service does not know of "
        "copies that a client or a proxy saved on purpose.",
    ),
    "full reports": (
        "kept",
        "Full reports of earlier versions are kept. They contain images that attacks recovered from those "
        "versions. A purge deletes the full reports of the versions whose files it deletes.",
    ),
    "reports and manifests": (
        "kept",
        "The report and the manifest of every version, of the one that this forget published as well, name "
        "labels. They contain no image and no weight. No purge deletes them.",
    ),
    "files without a version": (
        "not reached",
        "A job can leave files that it had stored, if it was cancelled or killed, or if the version it "
        "worked on was revoked meanwhile. The service sends them to nobody, and no purge deletes them. "
        "Once they are an hour old, the sweeper or the command `palimpsest collect` does.",
    ),
    "recorded samples": (
        "refused",
        "A recorded sample is a list of labels and a seed, without images. If its version is revoked, the "
        "service refuses to draw it again (HTTP status 410).",
    ),
    "database": (
        "kept",
        "The database keeps names, parameters, measurements and hashes of models, jobs, versions, datasets "
        "and deletions, the names of their labels and of files named after labels included, this receipt, "
        "and what clients wrote about them: descriptions, metadata and reasons. The "
        "only images in it are those in full reports.",
    ),
    **NAMES_IN_RECORDS,
    "backups": (
        "not reached",
        "Copies of folders or of the database that somebody made are outside this service.",
    ),
}
"""State and detail by store, for the stores about which every receipt says the same."""


def erasure_by_store(history: ForgetHistory) -> list[ErasureEntry]:
    """List every store once. Those whose entry depends on the forget come first."""
    return [
        _weights(history),
        _fisher(history),
        _older_versions(history),
        _pictures(history),
        _decoder_caches(history),
        _exports(history),
        _datasets(history),
        _classifiers(history),
        *([_bucket(history)] if history.is_in_bucket else []),
        *(
            ErasureEntry(store=store, state=state, detail=detail)
            for store, (state, detail) in SAME_FOR_EVERY_FORGET.items()
        ),
    ]


def _weights(history: ForgetHistory) -> ErasureEntry:
    number, learned = history.version.number, history.first_learned
    if history.is_isolated:
        detail = (
            f"Each of these labels had a network of its own. Version {number} does not have them any more. "
        )
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
        return ErasureEntry(store="weights", state="made without the labels", detail=detail)
    detail = (
        f"Version {number} was changed by {history.job.strategy} so that it does not draw these labels. Its "
        "weights descend from weights that had learned them. The forget keeps the version and every version "
        f"made from it.{_later(history)}"
    )
    return ErasureEntry(store="weights", state="changed", detail=detail)


def _later(history: ForgetHistory) -> str:
    """Say that the weights were deleted after the forget, if they were."""
    return " The file of its weights was deleted later." if history.is_deleted else ""


def _fisher(history: ForgetHistory) -> ErasureEntry:
    store, number = "Fisher information", history.version.number
    holds_label = any(slot is not None for slot in history.version.labels.values())
    if history.is_isolated:
        detail = f"Version {number} does not have the Fisher information of the dropped networks any more. "
        if holds_label:
            detail += "That of its main network, where it is stored, was computed for other labels."
        else:
            detail += "The main network holds no label."
        return ErasureEntry(store=store, state="dropped", detail=detail)
    if not holds_label:
        detail = f"The main network of version {number} holds no label, so it has no Fisher information."
        return ErasureEntry(store=store, state="none", detail=detail)
    if history.has_fisher_stored is None:
        detail = (
            f"The manifest of version {number} cannot be read, so it is not known whether the version is "
            "stored with it, as those of release 0.1.0 are. If it is, it was computed from images drawn of "
            f"the labels that the network retains.{_later(history)}"
        )
        return ErasureEntry(store=store, state="deleted" if history.is_deleted else "unknown", detail=detail)
    if history.has_fisher_stored:
        detail = (
            f"Release 0.1.0 made version {number}, and stored it in the file of the weights. It was computed "
            "from images drawn of the labels that the network retains. This release does not read it."
            f"{_later(history)}"
        )
        return ErasureEntry(store=store, state="deleted" if history.is_deleted else "stored", detail=detail)
    detail = (
        f"Version {number} is stored without it. A job that needs it computes it from images drawn of the "
        "labels that the network retains."
    )
    return ErasureEntry(store=store, state="not stored", detail=detail)


def older_state(version: VersionRow) -> OlderState:
    """Return what became of an earlier version. The files of a deleted one must be gone."""
    if version.purged_by:
        return "purged"
    if version.deleted_at is not None:
        return "deleted"
    return "revoked" if version.revoked_by else "kept"


def _older_versions(history: ForgetHistory) -> ErasureEntry:
    """Describe older versions. The state is that of the version of which most is left."""
    numbers_of: dict[str, list[int]] = {}
    for version in history.older:
        numbers_of.setdefault(older_state(version), []).append(version.number)
    sentences = [
        (
            "purged",
            "All files are deleted except report and manifest. The service refuses requests for "
            "anything else (HTTP status 410).",
        ),
        (
            "deleted",
            "A client deleted them. All files are deleted except report and manifest. The service refuses "
            "requests for anything else (HTTP status 410).",
        ),
        (
            "revoked",
            "The files are kept, but the service refuses to draw from them and to send them (HTTP status "
            "410).",
        ),
        (
            "kept",
            "Kept and served. They were made after a label was learned, but do not hold it, because it had "
            "been forgotten before.",
        ),
    ]
    described = [(state, sentence) for state, sentence in sentences if state in numbers_of]
    detail = " ".join(f"{_versions(numbers_of[state])}: {sentence}" for state, sentence in described)
    state = described[-1][0] if described else "kept"
    return ErasureEntry(store="older versions", state=state, detail=detail or "There are none.")


def _pictures(history: ForgetHistory) -> ErasureEntry:
    store, number = "pictures of forgotten labels", history.version.number
    names = [name for name in map(forgotten_file, history.job.labels) if name in history.version.files]
    evidence = _evidence(history)
    if names and history.is_deleted:
        detail = f"Those of version {number} were deleted later, with its other files.{evidence}"
        return ErasureEntry(store=store, state="kept" if evidence else "deleted", detail=detail)
    if not names:
        detail = f"No network is left that could draw these labels.{evidence}"
        return ErasureEntry(store=store, state="kept" if evidence else "none", detail=detail)
    detail = (
        f"{', '.join(sorted(names))}: sixteen images each, which version {number} draws for the forgotten "
        "label. They are kept as evidence of what is left of it. Versions made from this one have such "
        "files, too, while the label stays forgotten. They can be downloaded until a purge deletes them."
        f"{evidence}"
    )
    retained = [name for name in sorted(history.version.labels) if before_file(name) in history.version.files]
    if retained:
        detail += (
            f" Version {number} also has {COMPARED_DRAWS} images of each retained label "
            f"({', '.join(retained)}), drawn by the version before. The weights that drew them had learned "
            "the forgotten labels, so a purge deletes these files."
        )
    return ErasureEntry(store=store, state="kept", detail=detail)


def _evidence(history: ForgetHistory) -> str:
    """Say which versions keep pictures of what the labels drew before they were forgotten, if any does."""
    kept = {
        version.number: found
        for version in (*history.older, history.version)
        if older_state(version) in ("kept", "revoked")
        if (found := _evidence_files(version, history.job.labels))
    }
    files = "; ".join(f"{', '.join(sorted(found))} of version {number}" for number, found in kept.items())
    if not kept:
        deleted = [] if history.purge is None else history.purge.keys
        names = [entry["file"] for entry in deleted if entry["version"] == history.version.number]
        was_kept = any(before_file(label) in names for label in history.job.labels)
        return " The pictures of what these labels drew before are deleted." if was_kept else ""
    return (
        f" What these labels drew before they were forgotten is kept, too, as evidence: {files}, sixteen "
        "images of each label, drawn by weights that had learned it. Whoever may draw images can download "
        "them while their version is not revoked. Without a purge they stay; a purge deletes them."
    )


def _evidence_files(version: VersionRow, labels: Sequence[str]) -> list[str]:
    """Return the pictures of what labels drew before this version forgot them."""
    gone = [name for name in labels if name not in version.labels]
    return [file for file in map(before_file, gone) if file in version.files]


def _decoder_caches(history: ForgetHistory) -> ErasureEntry:
    detail = (
        f"An API process keeps up to {MAX_LOADED_DECODERS} decoders in memory, and images that it drew "
        f"lately, up to {MAX_CACHED_BYTES // 2**20} MiB of them. From a second after the forget on it sends "
        "no images of a revoked version, whose images it then removes from memory; a download of a file that "
        "began before may go on. It draws nothing from the "
        "decoder of a revoked version"
    )
    if history.purge is None:
        return ErasureEntry(store="decoder caches", state="refused", detail=f"{detail}.")
    seconds = BUCKET_UNLOAD_SECONDS if history.is_in_bucket else UNLOAD_SECONDS
    detail += f", and removes it from memory within {seconds:g} s after its file is deleted."
    return ErasureEntry(store="decoder caches", state="dropped", detail=detail)


def _exports(history: ForgetHistory) -> ErasureEntry:
    """Describe the files of images that workers drew from versions which may not be drawn from any more."""
    if not history.exports:
        detail = (
            "No version that holds these labels, or that a purge of this forget covers, had been exported."
        )
        return ErasureEntry(store="exports", state="none", detail=detail)
    whose = "Exports of versions that hold these labels, or that this forget purged"
    return describe_exports(whose, history.exports)


def describe_exports(whose: str, rows: Sequence[ExportRow]) -> ErasureEntry:
    """Describe exports whose files are deleted: one or more. whose: what they were made of."""
    removed = summarise_removed(rows)
    detail = (
        f"{whose}: {', '.join(row.id for row in rows)}. "
        f"Those that were not finished were stopped. Their {removed.shards} shards with {removed.images} "
        "images are deleted, and so are their manifests. Copies that clients downloaded before are outside "
        "this service."
    )
    if removed.kept:
        detail += f" {removed.kept} of the files are kept, because another export has the same bytes."
    if removed.left:
        detail += f" Old versions of some are left in the bucket: {'; '.join(sorted(set(removed.left)))}."
    return ErasureEntry(store="exports", state="kept" if removed.kept else "deleted", detail=detail)


def _datasets(history: ForgetHistory) -> ErasureEntry:
    deleted = [] if history.image_erasure is None else history.image_erasure.datasets
    sentences = [_deleted_images(entry) for entry in deleted]
    if others := sorted(set(history.datasets) - {entry["dataset"] for entry in deleted}):
        sentences.append(
            f"The forget changed nothing in the real images of the datasets {', '.join(others)}."
        )
    if deleted:
        sentences.append(
            "A worker keeps uploaded images in memory while it runs a job. Every job that could read these "
            "has ended."
        )
    state = "deleted" if deleted and not others and not any(map(_is_left, deleted)) else "kept"
    if history.image_erasure is not None and not deleted:
        sentences.append("They were to be deleted from uploaded datasets, but no such dataset held them.")
    return ErasureEntry(store="datasets", state=state, detail=" ".join(sentences))


def _is_left(entry: Mapping[str, Any]) -> bool:
    """Whether something of the file that held the images is left."""
    return bool(entry["kept"] or entry.get("remains"))


def _deleted_images(entry: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} of {label}" for label, count in entry["labels"].items())
    sentence = f"Dataset {entry['dataset']}: all images were deleted ({counts}), those for testing included"
    sentence += ", and the dataset with them." if entry["whole"] else "."
    if entry["kept"]:
        sentence += " The file that held them is kept, because another dataset has the same images."
    if entry.get("remains"):
        sentence += f" Old versions of the file that held them are left: {entry['remains']}."
    return sentence


def _classifiers(history: ForgetHistory) -> ErasureEntry:
    detail = (
        "These classifiers are trained on whole datasets. No generative model is trained with them. They are "
        "kept to test whether later versions draw a forgotten label again."
    )
    store = "judges and feature networks"
    deleted = [] if history.image_erasure is None else history.image_erasure.datasets
    if not deleted:
        return ErasureEntry(store=store, state="kept", detail=detail)
    names = ", ".join(entry["dataset"] for entry in deleted)
    sentence = (
        f"Those that were trained on the deleted images of {names} are deleted. Whether later versions draw "
        "these labels again can no longer be measured with them."
    )
    if {entry["dataset"] for entry in deleted} == set(history.datasets):
        return ErasureEntry(store=store, state="deleted", detail=sentence)
    return ErasureEntry(store=store, state="kept", detail=f"{sentence} Of the others: {detail}")


def describe_bucket(reasons: Sequence[str], *, deleted: bool) -> ErasureEntry:
    """Describe the bucket that files lie in.

    reasons: for each file of which something is left, why. deleted: whether any file was to be deleted.
    """
    detail = "Files are objects in a bucket of S3 storage. "
    if reasons:
        detail += (
            f"Of {len(reasons)} deleted files old versions are left: {'; '.join(sorted(set(reasons)))}. This "
            "service gives them to nobody. Whoever may read old versions in the bucket can read them until "
            "the bucket lets them be deleted, which the sweeper tries again and again. "
        )
    elif deleted:
        detail += "Of each deleted file, all versions that the bucket lists were deleted. "
    detail += (
        "If this deployment redirects downloads to links of the bucket, a link works for "
        f"{LINK_SECONDS:g} s after it was made, but no longer than its file is there. "
        "Copies that the bucket makes elsewhere (replication, backups) are not reached. An API process keeps "
        "copies of files it has read in files without a name, which end with the process, and drops a copy "
        f"within {BUCKET_UNLOAD_SECONDS:g} s after its file is deleted."
    )
    state = "not reached" if reasons else "deleted" if deleted else "kept"
    return ErasureEntry(store="bucket", state=state, detail=detail)


def _bucket(history: ForgetHistory) -> ErasureEntry:
    images = [] if history.image_erasure is None else history.image_erasure.datasets
    kept = [] if history.purge is None else history.purge.kept
    left = [one.get("remains") for one in images] + [one.get("reason") for one in kept]
    left += summarise_removed(history.exports).left
    is_deleted = history.purge is not None or bool(images) or bool(history.exports)
    return describe_bucket([reason for reason in left if reason], deleted=is_deleted)


def _versions(numbers: Sequence[int]) -> str:
    return f"Version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
