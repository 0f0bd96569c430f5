"""`client.images` and `client.samples`: draw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx2

from palimpsest.calls import call, pages
from palimpsest.requests import (
    Page,
    Read,
    Request,
    T,
    content,
    delete,
    get,
    nothing,
    page,
    segment,
    value,
    without_none,
)
from palimpsest.resources.models import PAGE, path_of
from palimpsest.resources.versions import version_path
from palimpsest.values import Model, Sample, SampleRecord, open_image

if TYPE_CHECKING:
    from PIL import Image


class Images:
    """Draw images that are a pure function of model, version, label and seed. Nothing is recorded."""

    @call
    def get(
        self,
        model: str | Model,
        version: int | str,
        label: str,
        seed: int,
        *,
        scale: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Request[bytes]:
        """Draw a PNG of one label, 28 x 28 pixels times `scale`, and return its bytes.

        grid: (rows, columns) of images instead of one; their seeds count up from `seed`.
        """
        return _image(model, version, label, seed, content, scale=scale, grid=grid)

    @call
    def draw(
        self,
        model: str | Model,
        label: str,
        *,
        version: int | str = "head",
        seed: int = 0,
        scale: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Request["Image.Image"]:
        """Draw a label as a Pillow image. scale, grid: as in `get`."""
        return _image(model, version, label, seed, _open, scale=scale, grid=grid)


class Samples:
    """Draw images, and record which: the same sample can be drawn again, with the same pixels."""

    @call
    def create(
        self,
        model: str | Model,
        labels: Sequence[str],
        count: int = 1,
        *,
        seed: int | None = None,
        version: int | str | None = None,
        format: str = "png_grid",
        idempotency_key: str | None = None,
    ) -> Request[Sample]:
        """Draw `count` images of each label.

        seed: by default a random one, which is recorded. version: its number or an alias, by default the
        newest.
        format: "png_grid" is one PNG with a row for each label, "webp" the same as lossless WebP; "png",
        "npz" and "b64_json" are the others.

        Without an `idempotency_key` a request whose answer was lost is not sent again, since a server
        without space for records draws such a request all the same.
        """
        body = without_none(labels=[*labels], count=count, seed=seed, version=version, format=format)
        headers = without_none(**{"Idempotency-Key": idempotency_key})
        return Request("POST", f"{path_of(model)}/samples", _read_sample, body=body, headers=headers)

    @call
    def get(self, sample: str) -> Request[SampleRecord]:
        """Get the record of a sample."""
        return get(f"/v1/samples/{segment(sample)}", value(SampleRecord))

    @pages
    def list(
        self,
        *,
        model: str | None = None,
        version: int | str | None = None,
        label: str | None = None,
    ) -> Request[Page[SampleRecord]]:
        """Iterate over the recorded samples, newest first.

        model, version, label: only those of this model, this version of it, or with images of this label.
        """
        own = {"model": model, "version": version, "label": label}
        return get("/v1/samples", page(SampleRecord), limit=PAGE, **own)

    @call
    def delete(self, sample: str) -> Request[None]:
        """Delete the record of a sample."""
        return delete(f"/v1/samples/{segment(sample)}", nothing)

    @call
    def draw(self, sample: str) -> Request[Sample]:
        """Draw a sample again, with exactly the same pixels. Gone once its version is revoked."""
        return get(f"/v1/samples/{segment(sample)}/images", _read_sample)


def _image(
    model: str | Model,
    version: int | str,
    label: str,
    seed: int,
    read: Read[T],
    *,
    scale: int | None,
    grid: tuple[int, int] | None,
) -> Request[T]:
    path = f"{version_path(model, version)}/images/{segment(label)}/{segment(seed)}.png"
    return get(path, read, scale=scale, grid=f"{grid[0]}x{grid[1]}" if grid else None)


def _open(response: httpx2.Response) -> "Image.Image":
    return open_image(response.content)


def _read_sample(response: httpx2.Response) -> Sample:
    return Sample(
        id=response.headers.get("X-Sample-Id"),
        version=int(response.headers["X-Model-Version"]),
        media_type=response.headers["Content-Type"],
        content=response.content,
    )
