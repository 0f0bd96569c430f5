"""Images depend on the decoder's bytes, slot, label and seed alone, and a bad decoder draws none."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.drawing.decoders import BATCH_SIZES, Decoder, DecoderUnusable, Generator, Wanted, noise
from service.registry.artifacts import FolderArtifacts
from service.registry.errors import ArtifactCorrupt, ArtifactMissing
from tests.drawing.decoders import constant_decoder, decoder, mixing_decoder


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts")


def test_the_same_label_and_seed_give_the_same_pixels_with_another_generator_too(
    artifacts: FolderArtifacts,
) -> None:
    sha256 = artifacts.put(decoder())
    first = Generator(artifacts).draw(sha256, label="3", slot=1, seeds=[7])
    again = Generator(artifacts).draw(sha256, label="3", slot=1, seeds=[7])
    assert first.dtype == np.uint8
    assert first.shape == (1, 28, 28)
    assert np.array_equal(first, again)


def test_another_label_seed_slot_or_decoder_gives_other_pixels(artifacts: FolderArtifacts) -> None:
    sha256, other = artifacts.put(decoder()), artifacts.put(decoder(seed=1))
    generator = Generator(artifacts)
    drawn = [
        generator.draw(sha256, label="3", slot=1, seeds=[7]),
        generator.draw(sha256, label="4", slot=1, seeds=[7]),
        generator.draw(sha256, label="3", slot=1, seeds=[8]),
        generator.draw(sha256, label="3", slot=2, seeds=[7]),
        generator.draw(other, label="3", slot=1, seeds=[7]),
    ]
    assert len({images.tobytes() for images in drawn}) == len(drawn)


def test_no_other_image_of_a_request_changes_a_bit_of_an_image(artifacts: FolderArtifacts) -> None:
    sha256 = artifacts.put(decoder(latent=8))
    generator = Generator(artifacts)
    together = generator.draw(sha256, label="3", slot=1, seeds=range(100, 140))
    one_by_one = [generator.draw(sha256, label="3", slot=1, seeds=[seed])[0] for seed in range(100, 140)]
    assert np.array_equal(together, np.stack(one_by_one))


def test_threads_that_draw_at_once_get_the_same_pixels_as_one(artifacts: FolderArtifacts) -> None:
    hashes = [artifacts.put(decoder(seed=seed)) for seed in range(4)]
    generator = Generator(artifacts, capacity=2)  # fewer than are in use, so that decoders are unloaded

    def draw(index: int) -> bytes:
        return generator.draw(hashes[index % 4], label="3", slot=1, seeds=range(5)).tobytes()

    expected = [draw(index) for index in range(4)]
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.__setitem__(i, draw(i)), daemon=True) for i in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {index: expected[index % 4] for index in range(24)}


def test_the_pixels_are_those_the_decoder_computes_for_that_noise(artifacts: FolderArtifacts) -> None:
    data = decoder(latent=4)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feed = {"noise": noise("3", 7, 4)[None], "slot": np.array([2])}
    expected = np.round(np.asarray(session.run(["images"], feed)[0]) * 255.0).astype(np.uint8).reshape(28, 28)
    drawn = Generator(artifacts).draw(artifacts.put(data), label="3", slot=2, seeds=[7])[0]
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize(
    ("value", "pixel"), [(0.0, 0), (1.0, 255), (0.5, 128), (2.5 / 255, 2), (0.0039, 1), (1.5, 255), (-1, 0)]
)
def test_a_pixel_is_255_times_the_mean_rounded_half_to_even_and_clipped(
    artifacts: FolderArtifacts, value: float, pixel: int
) -> None:
    sha256 = artifacts.put(constant_decoder(value))
    assert (Generator(artifacts).draw(sha256, label="3", slot=0, seeds=[0]) == pixel).all()


def test_noise_is_standard_normal_and_never_changes() -> None:
    many = np.stack([noise("3", seed, 8) for seed in range(4000)])
    assert abs(many.mean()) < 0.02
    assert abs(many.std() - 1) < 0.02
    # If this digest changes, every published image changes: it may only do so on purpose.
    frozen = hashlib.sha256(np.stack([noise("3", seed, 8) for seed in range(64)]).tobytes()).hexdigest()
    assert frozen[:16] == "45c7d22b191fe596"


def test_a_corrupt_decoder_is_not_used_and_others_still_are(artifacts: FolderArtifacts) -> None:
    good, bad = artifacts.put(decoder()), artifacts.put(decoder(seed=1))
    flipped = bytearray(artifacts.path(bad).read_bytes())
    flipped[len(flipped) // 2] ^= 1
    artifacts.path(bad).write_bytes(flipped)
    generator = Generator(artifacts)
    with pytest.raises(ArtifactCorrupt):
        generator.draw(bad, label="3", slot=0, seeds=[0])
    assert generator.draw(good, label="3", slot=0, seeds=[0]).shape == (1, 28, 28)
    artifacts.path(bad).unlink()
    with pytest.raises(ArtifactMissing):
        generator.draw(bad, label="3", slot=0, seeds=[0])


@pytest.mark.parametrize("data", [b"", b"not ONNX", decoder()[:200]], ids=["empty", "text", "truncated"])
def test_bytes_that_are_not_a_decoder_are_refused(artifacts: FolderArtifacts, data: bytes) -> None:
    sha256 = artifacts.put(data)
    with pytest.raises(DecoderUnusable, match=r"restore it from a backup"):
        Generator(artifacts).draw(sha256, label="3", slot=0, seeds=[0])


def test_a_slot_the_decoder_does_not_have_is_refused(artifacts: FolderArtifacts) -> None:
    sha256 = artifacts.put(decoder(slots=3))
    with pytest.raises(DecoderUnusable, match="slot 3"):
        Generator(artifacts).draw(sha256, label="3", slot=3, seeds=[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_decoder_whose_pixels_are_not_finite_is_refused(artifacts: FolderArtifacts, value: float) -> None:
    sha256 = artifacts.put(constant_decoder(value))
    with pytest.raises(DecoderUnusable, match="not a square image"):
        Generator(artifacts).draw(sha256, label="3", slot=0, seeds=[0])


def test_a_decoder_is_read_once_and_the_least_recently_used_is_unloaded_first(
    artifacts: FolderArtifacts,
) -> None:
    first, second, third = (artifacts.put(decoder(seed=seed)) for seed in range(3))
    generator = Generator(artifacts, capacity=2)

    def drawable(sha256: str) -> bool:
        try:
            generator.draw(sha256, label="3", slot=0, seeds=[0])
        except ArtifactMissing:
            return False
        return True

    assert all(drawable(sha256) for sha256 in (first, second, first, third))  # second leaves
    for sha256 in (first, second, third):
        artifacts.path(sha256).unlink()
    assert [drawable(sha256) for sha256 in (first, second, third)] == [True, False, True]


def test_batches_are_used_only_in_sizes_that_give_the_bits_of_each_image_alone() -> None:
    assert Decoder.load("", decoder(latent=8)).batch_sizes == BATCH_SIZES
    assert Decoder.load("", mixing_decoder()).batch_sizes == ()


def test_a_decoder_that_mixes_the_images_of_a_batch_draws_each_one_by_itself(
    artifacts: FolderArtifacts,
) -> None:
    data = mixing_decoder()
    together = Generator(artifacts).draw(artifacts.put(data), label="3", slot=1, seeds=range(20))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for seed in range(20):
        feed = {"noise": noise("3", seed, 4)[None], "slot": np.array([1])}
        expected = np.round(np.asarray(session.run(["images"], feed)[0]) * 255.0).astype(np.uint8)
        assert np.array_equal(together[seed].ravel(), expected.ravel())


def test_images_of_several_labels_are_drawn_together_in_the_order_they_are_wanted_in() -> None:
    loaded = Decoder.load("", decoder(slots=12))
    wanted = [Wanted(slot, str(slot), seed) for slot in (3, 1, 11) for seed in range(30)]
    together = loaded.draw(wanted)
    assert all(
        np.array_equal(loaded.draw([one])[0], image) for one, image in zip(wanted, together, strict=True)
    )
