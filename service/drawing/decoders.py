"""Draw images with published decoders, which are ONNX files: label and seed -> pixels. Needs no PyTorch.

An image depends on its model, version, label and seed only. The version determines the decoder's bytes and
the label's slot; the label and the seed are the key of a counter-based random generator for the noise. Images
are decoded together, in batches of those sizes for which the decoder was seen to compute the same bits as
for each image alone (decision 0135).
"""

import hashlib
import math
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service import metrics
from service.registry.artifacts import Artifacts
from service.registry.errors import ArtifactCorrupt, RegistryError

Pixels = NDArray[np.uint8]

MAX_LOADED_DECODERS = 8
"""How many decoders a process keeps loaded."""
UNLOAD_SECONDS = 1.0
"""How often a process unloads decoders whose files were purged, in seconds."""
BUCKET_UNLOAD_SECONDS = 30.0
"""The same if they lie in a bucket, where each look at a file costs a request."""

BATCH_SIZES = (64, 32, 16, 8, 4, 2)
"""The sizes of batches that may be used, the largest first. One image is always decoded alone."""
PROOFS = 2
"""How many batches of each size are compared with the same images decoded alone."""

RENDERING = f"1/ort-{onnxruntime.__version__}/numpy-{np.__version__}"
"""What determines the pixels besides model, version, label and seed. It is part of every image's ETag."""


class DecoderUnusable(RegistryError):
    """The artifact has the bytes that were stored, but no image can be drawn with it.

    The client gets the code of a corrupt artifact: what to do is the same.
    """

    code = ArtifactCorrupt.code
    cause = ArtifactCorrupt.cause
    cure = ArtifactCorrupt.cure

    def __init__(self, sha256: str, reason: str) -> None:
        super().__init__(f"cannot draw with decoder {sha256}: {reason}; restore it from a backup")


class Generator:
    """Draws images with published decoders, and keeps the last used ones loaded. Thread-safe."""

    def __init__(self, artifacts: Artifacts, *, capacity: int = MAX_LOADED_DECODERS) -> None:
        self._artifacts = artifacts
        self._capacity = capacity
        self._decoders: OrderedDict[str, Decoder] = OrderedDict()
        self._lock = threading.Lock()

    def draw(self, decoder: str, *, label: str, slot: int, seeds: Sequence[int]) -> Pixels:
        """Draw images of one label, one for each seed: uint8 [len(seeds), side, side], 0 = background.

        decoder: the sha256 of the decoder's ONNX file. Raises ArtifactMissing, ArtifactUnreadable,
        ArtifactCorrupt, and DecoderUnusable if no image can be computed.
        """
        with metrics.DRAW_SECONDS.time():
            return self._loaded(decoder).draw([Wanted(slot, label, seed) for seed in seeds])

    def find_loaded(self, decoder: str) -> "Decoder | None":
        """Return the decoder if it is loaded. Never waits for a disk."""
        return self._decoders.get(decoder)

    def find_without_file(self) -> set[str]:
        """Return the loaded decoders whose file is missing: it was purged, or its folder is unreachable."""
        with self._lock:
            loaded = list(self._decoders)
        return {sha256 for sha256 in loaded if not self._artifacts.exists(sha256)}

    def unload(self, decoders: Collection[str]) -> None:
        """Remove these decoders from memory."""
        with self._lock:
            for sha256 in decoders:
                self._decoders.pop(sha256, None)

    def _loaded(self, sha256: str) -> "Decoder":
        with self._lock:  # loading takes some ms; other threads wait meanwhile
            metrics.DECODER_USES.labels("cache" if sha256 in self._decoders else "store").inc()
            if sha256 not in self._decoders:
                self._decoders[sha256] = Decoder.load(sha256, self._artifacts.read(sha256))
                if len(self._decoders) > self._capacity:
                    self._decoders.popitem(last=False)
            self._decoders.move_to_end(sha256)
            return self._decoders[sha256]


class Wanted(NamedTuple):
    """An image to draw with a decoder."""

    slot: int
    label: str
    seed: int


@dataclass(frozen=True)
class Decoder:
    """A loaded decoder: noise float32 [n, noise_size], slot int64 [n] -> images float32 [n, side * side]."""

    sha256: str
    session: onnxruntime.InferenceSession
    noise_size: int
    batch_sizes: tuple[int, ...]
    """The sizes of batches in which it computes the bits of each image alone, the largest first."""
    seconds_per_image: float
    """How long one image of the largest of these batches took."""

    @classmethod
    def load(cls, sha256: str, data: bytes) -> "Decoder":
        """Load the decoder from the bytes of its file. Raises DecoderUnusable."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # print nothing: errors are raised
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            inputs = {entry.name: entry for entry in session.get_inputs()}
            noise_size = inputs["noise"].shape[1]
        except Exception as error:  # the errors of ONNX Runtime have no other base class
            raise DecoderUnusable(sha256, "it is not an ONNX decoder") from error
        if set(inputs) != {"noise", "slot"} or not isinstance(noise_size, int):
            raise DecoderUnusable(sha256, "its inputs are not noise [n, noise_size] and slot [n]")
        try:
            sizes, seconds = _prove_batches(session, noise_size)
        except Exception as error:  # as above
            raise DecoderUnusable(sha256, "it does not decode slot 0") from error
        return cls(sha256, session, noise_size, sizes, seconds)

    def draw(self, wanted: Sequence[Wanted]) -> Pixels:
        """Draw the images: uint8 [len(wanted), side, side]: round(255 x), half to even, of x in [0, 1].

        Raises DecoderUnusable.
        """
        noises = _noises(wanted, self.noise_size)
        slots = np.array([one.slot for one in wanted], dtype=np.int64)
        if len(wanted) == 1 or len(wanted) in self.batch_sizes:
            return self._decode(noises, slots)
        parts, first = [], 0
        while first < len(wanted):
            size = next((size for size in self.batch_sizes if size <= len(wanted) - first), 1)
            last = first + size
            parts.append(self._decode(noises[first:last], slots[first:last]))
            first = last
        return np.concatenate(parts)

    def _decode(self, noises: NDArray[np.float32], slots: NDArray[np.int64]) -> Pixels:
        try:
            images = _run(self.session, noises, slots)
        except Exception as error:  # as above
            named = ", ".join(str(slot) for slot in sorted(set(slots.tolist())))
            raise DecoderUnusable(self.sha256, f"it does not decode slot {named}") from error
        side = math.isqrt(images.size // len(slots))
        # The sum is finite if all are: a quarter of the time of looking at each.
        if side * side * len(slots) != images.size or not math.isfinite(images.sum(dtype=np.float64)):
            raise DecoderUnusable(self.sha256, "its output is not a square image of finite numbers")
        np.multiply(images, np.float32(255), out=images)
        np.maximum(images, np.float32(0), out=images)
        np.minimum(images, np.float32(255), out=images)
        pixels: Pixels = np.rint(images, out=images).astype(np.uint8)
        return pixels.reshape(len(slots), side, side)


def _prove_batches(session: onnxruntime.InferenceSession, noise_size: int) -> tuple[tuple[int, ...], float]:
    """Return the sizes of batches that give the bits of each image alone, and the seconds an image takes.

    Compared are images of slot 0 with noise that is standard normal, as all noise is. It takes some ms.
    """
    largest = BATCH_SIZES[0]
    numbers = np.random.Generator(np.random.Philox(0))
    noises = numbers.standard_normal((largest * PROOFS, noise_size)).astype(np.float32)
    slots = np.zeros(len(noises), dtype=np.int64)
    one_by_one = np.concatenate([_run(session, one[None], slots[:1]) for one in noises])
    proven, fastest = [], math.inf
    for size in BATCH_SIZES:
        took, together = [], []
        for first in range(0, size * PROOFS, size):
            began = time.thread_time()
            together.append(_run(session, noises[first : first + size], slots[:size]))
            took.append((time.thread_time() - began) / size)
        if np.array_equal(np.concatenate(together), one_by_one[: size * PROOFS], equal_nan=True):
            proven.append(size)
            fastest = min(fastest, *took)
    if not proven:
        began = time.thread_time()
        _run(session, noises[:1], slots[:1])
        fastest = time.thread_time() - began
    return tuple(proven), fastest


def _run(
    session: onnxruntime.InferenceSession, noises: NDArray[np.float32], slots: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the images float32 [n, side * side] of noise [n, noise_size] and slots [n]."""
    (result,) = session.run(["images"], {"noise": noises, "slot": slots})
    images: NDArray[np.float32] = np.asarray(result)
    return images


KEY = struct.Struct("<QQ")
"""The key of a Philox generator in the first bytes of a hash."""


class _Normal(threading.local):
    """A generator of normal numbers for each thread: making a new one costs as much as drawing an image."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(0)
        self.numbers = np.random.Generator(self.bits)
        # With Python's numbers: setting the state reads each of them, which costs more from arrays.
        zeros = {"state": {"counter": (0, 0, 0, 0), "key": (0, 0)}, "buffer": (0, 0, 0, 0)}
        self.state: Any = {**self.bits.state, **zeros}


_NORMAL = _Normal()


def noise(label: str, seed: int, noise_size: int) -> NDArray[np.float32]:
    """Return standard normal noise [noise_size] from a Philox generator, keyed with the sha256 of both."""
    one: NDArray[np.float32] = _noises([Wanted(0, label, seed)], noise_size)[0]
    return one


def _noises(wanted: Sequence[Wanted], noise_size: int) -> NDArray[np.float32]:
    """Return the noise of each image: float32 [len(wanted), noise_size]."""
    state, noises = _NORMAL.state, np.empty((len(wanted), noise_size), dtype=np.float32)
    for place, (_, label, seed) in enumerate(wanted):
        digest = hashlib.sha256(f"{label}\0{seed}".encode()).digest()
        state["state"]["key"] = KEY.unpack_from(digest)
        _NORMAL.bits.state = state  # its counter is 0: the beginning of the stream of this key
        noises[place] = _NORMAL.numbers.standard_normal(noise_size)
    return noises
