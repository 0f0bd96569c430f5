"""Encoded images that were drawn lately, bounded by their bytes."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Set

MAX_CACHED_BYTES = 16 * 2**20
BYTES_OF_ENTRY = 600
"""What an entry takes besides the bytes of its image, about."""


class ImageCache:
    """{(version id, what was drawn): bytes of a file}. Not thread-safe: it is used in the event loop alone.

    The entry that was used longest ago leaves first.
    """

    def __init__(self, *, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[str, Hashable], bytes] = OrderedDict()
        self._counts: Counter[str] = Counter()
        """{version: how many images are here of it}."""

    def find(self, version: str, drawn: Hashable) -> bytes | None:
        """Return the image if it is here."""
        key = (version, drawn)
        image = self._entries.get(key)
        if image is not None:
            self._entries.move_to_end(key)
        return image

    def keep(self, version: str, drawn: Hashable, image: bytes) -> None:
        """Add the image, unless it alone is larger than a tenth of the cache."""
        size = len(image) + BYTES_OF_ENTRY
        if (version, drawn) in self._entries or size > self._max_bytes / 10:
            return
        self._entries[version, drawn] = image
        self._counts[version] += 1
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def versions(self) -> set[str]:
        """Return the ids of the versions that images are here of."""
        return set(self._counts)

    def drop(self, versions: Set[str]) -> None:
        """Remove every image of these versions."""
        if gone := self._counts.keys() & versions:
            for key in [key for key in self._entries if key[0] in gone]:
                self._remove(key)

    def _remove(self, key: tuple[str, Hashable]) -> None:
        self._bytes -= len(self._entries.pop(key)) + BYTES_OF_ENTRY
        self._counts[key[0]] -= 1
        if not self._counts[key[0]]:
            del self._counts[key[0]]
