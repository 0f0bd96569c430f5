"""Draw the images of an export, a block at a time: the same images as those of samples."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from service.drawing.decoders import Decoder, Wanted
from service.drawing.images import Pixels
from service.drawing.shards import BLOCK
from service.registry.artifacts import Artifacts
from service.registry.export_plan import ExportPlan, ImageRange
from service.registry.versions import LabelDecoder


class ExportDrawing:
    """Draws the images of a plan with the decoders of its labels, which it keeps loaded."""

    def __init__(self, artifacts: Artifacts, plan: ExportPlan, decoders: Mapping[str, LabelDecoder]) -> None:
        """Raises ArtifactMissing, ArtifactUnreadable, ArtifactCorrupt, DecoderUnusable."""
        self._plan = plan
        self._labels = [(label, decoders[label]) for label in plan.labels]
        self._loaded = {
            sha256: Decoder.load(sha256, artifacts.read(sha256))
            for sha256 in sorted({one.sha256 for one in decoders.values()})
        }

    def blocks(self, images: ImageRange) -> Iterator[Pixels]:
        """Yield the images of the range in order, in blocks uint8 [n, side, side] of BLOCK images or fewer.

        Raises DecoderUnusable.
        """
        for first in range(images.first, images.end, BLOCK):
            yield self._draw(range(first, min(first + BLOCK, images.end)))

    def _draw(self, numbers: Sequence[int]) -> Pixels:
        labels, seed, count = self._labels, self._plan.seed, len(self._labels)
        wanted: dict[str, tuple[list[int], list[Wanted]]] = {sha256: ([], []) for sha256 in self._loaded}
        for place, number in enumerate(numbers):
            label, (sha256, slot) = labels[number % count]
            places, some = wanted[sha256]
            places.append(place)
            some.append(Wanted(slot, label, seed + number // count))
        if len(wanted) == 1:
            (sha256, (_, some)), *_ = wanted.items()
            return self._loaded[sha256].draw(some)
        drawn = {sha256: self._loaded[sha256].draw(some) for sha256, (_, some) in wanted.items() if some}
        side = next(iter(drawn.values())).shape[1]
        block = np.empty((len(numbers), side, side), dtype=np.uint8)
        for sha256, images in drawn.items():
            block[wanted[sha256][0]] = images
        return block
