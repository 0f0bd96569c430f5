"""Which images an export has, and which of them are in which shard: arithmetic, without rows or pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class ImageRange(NamedTuple):
    """The images of a shard: those from `first` to the one before `end`."""

    first: int
    end: int

    @property
    def images(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class ExportPlan:
    """`count` images of each label, which take turns: image i is of label i modulo the number of labels.

    Its seed is `seed` + i divided by that number, so that the images are those of a sample with the same
    labels, count and seed. Each shard has all labels in nearly equal shares.
    """

    labels: Sequence[str]
    count: int
    seed: int
    shard_images: int

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.count * len(self.labels)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.images // self.shard_images)

    def range_of(self, shard: int) -> ImageRange:
        """Return which images the shard of that number has."""
        first = shard * self.shard_images
        return ImageRange(first, min(first + self.shard_images, self.images))
