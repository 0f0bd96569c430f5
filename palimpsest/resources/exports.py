"""`client.exports`: many images, drawn by workers into files, and their download."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from palimpsest.calls import call, pages, steps
from palimpsest.errors import DownloadDamaged, ExportFailed, ExportNotDone
from palimpsest.requests import (
    Page,
    Request,
    content,
    delete,
    get,
    nothing,
    page,
    post,
    segment,
    value,
    without_none,
)
from palimpsest.resources.models import PAGE, path_of
from palimpsest.resources.waiting import poll, wait_until_done
from palimpsest.transports import Notify, Steps, send
from palimpsest.values import Export, ExportShard, Model

PIECE_BYTES = 8 << 20
"""How many bytes of a shard are requested at a time: a download needs little memory, and can be resumed."""
MANIFEST = "manifest.json"
FILE = re.compile(r"[A-Za-z0-9_-]{1,100}\.[a-z0-9]{1,10}")
"""Names of shards. Others could lie outside the folder that they are written to."""


class Exports:
    """Draw many images with the workers, and download them.

    The argument `export` is the id of an export, or the export.
    """

    @call
    def create(
        self,
        model: str | Model,
        count: int,
        *,
        labels: Sequence[str] | None = None,
        seed: int | None = None,
        version: int | str | None = None,
        format: str = "npz",
        shard_images: int | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Export]:
        """Request `count` images of each label.

        labels: by default all that the version holds. seed: by default a random one. version: its number or
        an alias, by default the newest. format: "npz" or "webdataset". shard_images: how many images a shard
        has.
        """
        body = without_none(
            count=count,
            labels=None if labels is None else [*labels],
            seed=seed,
            version=version,
            format=format,
            shard_images=shard_images,
        )
        return post(f"{path_of(model)}/exports", body, value(Export), idempotency_key)

    @call
    def get(self, export: str | Export) -> Request[Export]:
        """Get an export as it is now."""
        return get(export_path(export), value(Export))

    @pages
    def list(
        self,
        *,
        model: str | None = None,
        version: int | str | None = None,
        state: str | None = None,
        label: str | None = None,
    ) -> Request[Page[Export]]:
        """Iterate over the exports of the project, newest first.

        model, version, state, label: only those of this model, this version of it, in this state, or with
        images of this label.
        """
        own = {"model": model, "version": version, "state": state, "label": label}
        return get("/v1/exports", page(Export), limit=PAGE, **own)

    @call
    def cancel(self, export: str | Export) -> Request[Export]:
        """Cancel an export; its shards are deleted. A second call changes nothing."""
        return post(f"{export_path(export)}/cancel", None, value(Export))

    @call
    def delete(self, export: str | Export) -> Request[None]:
        """Delete an export with its files."""
        return delete(export_path(export), nothing)

    @pages
    def shards(self, export: str | Export) -> Request[Page[ExportShard]]:
        """Iterate over the finished shards of an export, by their numbers."""
        return get(f"{export_path(export)}/shards", page(ExportShard), limit=PAGE)

    @steps
    def wait(
        self,
        export: str | Export,
        *,
        on_progress: Callable[[Export], object] | None = None,
        timeout: float | None = None,
        must_succeed: bool = False,
    ) -> Steps[Export]:
        """Wait until an export is done, and return it, whether it succeeded or not.

        The arguments are those of `jobs.wait`. Raises ExportNotDone after `timeout` seconds; with
        `must_succeed` ExportFailed unless it succeeded.
        """
        finished = yield from wait_until_done(
            poll(export_path(export), Export), on_progress=on_progress, timeout=timeout, give_up=ExportNotDone
        )
        if must_succeed and not finished.succeeded:
            raise ExportFailed(finished)
        return finished

    @steps
    def download(
        self,
        export: str | Export,
        folder: str | Path,
        *,
        on_progress: Callable[[int], object] | None = None,
    ) -> Steps[Path]:
        """Download all shards of an export that has succeeded, and its manifest. Returns the manifest's path.

        Every file is checked against its sha256. A file that is there already is not downloaded again, and
        one that was interrupted is continued. The manifest is written last. `on_progress` is called with the
        bytes so far. Raises ExportNotDone, ExportFailed, DownloadDamaged, OSError.
        """
        found = yield from send(get(export_path(export), value(Export)))
        if found.manifest is None:
            raise ExportFailed(found) if found.done else ExportNotDone(found, 0.0)
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        manifest = yield from send(get(f"{export_path(export)}/manifest", content))
        if hashlib.sha256(manifest).hexdigest() != found.manifest.sha256:
            raise DownloadDamaged("the manifest does not have the sha256 that the export names")
        so_far = 0
        for entry in json.loads(manifest)["shards"]:
            path = f"{export_path(export)}/shards/{entry['number']}"
            yield from _download(path, entry, target)
            so_far += entry["bytes"]
            if on_progress is not None:
                yield Notify(on_progress, so_far)
        written = target / MANIFEST
        written.write_bytes(manifest)
        return written


def export_path(export: str | Export) -> str:
    """Return the path of an export."""
    return f"/v1/exports/{segment(export.id if isinstance(export, Export) else export)}"


def _download(path: str, entry: dict[str, Any], folder: Path) -> Steps[None]:
    """Download a shard into the folder, unless it is there."""
    if not FILE.fullmatch(entry["file"]):
        raise DownloadDamaged(f"the manifest names a file {entry['file'][:80]!r}")
    target = folder / entry["file"]
    if target.exists() and _hash(target) == entry["sha256"]:
        return
    partial = folder / f"{entry['file']}.part"
    with partial.open("ab") as file:
        while (start := file.tell()) < entry["bytes"]:
            end = min(start + PIECE_BYTES, entry["bytes"]) - 1
            piece = yield from send(Request("GET", path, content, headers={"Range": f"bytes={start}-{end}"}))
            if len(piece) != end - start + 1:
                raise DownloadDamaged(f"{entry['file']}: {len(piece)} bytes came for {end - start + 1}")
            file.write(piece)
    if _hash(partial) != entry["sha256"]:
        partial.unlink()
        raise DownloadDamaged(f"{entry['file']} does not have the sha256 that the manifest names")
    partial.replace(target)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
