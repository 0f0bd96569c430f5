"""The cache of encoded images is bounded by bytes, and forgets the versions that it is told to."""

from service.drawing.image_cache import BYTES_OF_ENTRY, ImageCache


def test_the_image_that_was_used_longest_ago_leaves_first() -> None:
    size = 400
    cache = ImageCache(max_bytes=20 * (size + BYTES_OF_ENTRY))
    for number in range(20):
        cache.keep("v", number, bytes([number]) * size)
    assert cache.find("v", 0) == bytes(size)
    cache.keep("v", 20, bytes(size))
    assert cache.find("v", 1) is None
    assert cache.find("v", 0) is not None
    assert cache.find("v", 20) is not None


def test_an_image_that_would_take_much_of_it_is_not_kept() -> None:
    cache = ImageCache(max_bytes=10_000)
    cache.keep("v", "large", bytes(1_000))
    cache.keep("v", "small", bytes(100))
    assert (cache.find("v", "large"), cache.find("v", "small")) == (None, bytes(100))


def test_the_images_of_a_version_are_dropped_and_their_room_is_free_again() -> None:
    size = 400
    cache = ImageCache(max_bytes=20 * (size + BYTES_OF_ENTRY))
    for number in range(20):
        cache.keep("old" if number % 2 else "new", number, bytes(size))
    assert cache.versions() == {"old", "new"}
    cache.drop({"old", "unknown"})
    assert cache.versions() == {"new"}
    for number in range(100, 110):
        cache.keep("newer", number, bytes(size))
    assert all(cache.find("new", number) is not None for number in range(0, 20, 2))
    assert cache.find("old", 1) is None
