"""Pixels from a published version: decoder (ONNX) + label + seed -> image. No torch in here.

An image is a pure function of (model, version, label, seed). The version fixes the decoder's bytes and the
label's slot; (label, seed) key a counter-based generator for the noise; and every image is decoded by its own
batch-of-one run on one thread, so that no neighbour in a batch changes a bit of it.
"""

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.registry.artifacts import FolderArtifacts
from service.registry.errors import RegistryError

Pixels = NDArray[np.uint8]

CAPACITY = 8
"""Decoders a process keeps loaded."""
FORGET_SECONDS = 1.0
"""How often a process looks whether one was purged."""

RENDERING = f"1/ort-{onnxruntime.__version__}/numpy-{np.__version__}"
"""Names everything besides the version that decides a pixel; part of every image's ETag."""


class NotADecoder(RegistryError):
    """The stored bytes are the published ones, but cannot be drawn from."""

    code = "artifact_corrupt"

    def __init__(self, sha256: str, why: str) -> None:
        super().__init__(f"decoder {sha256} cannot be drawn from: {why}; restore it from a backup")


class Generator:
    """Draws images of published versions; keeps the last few decoders loaded. For any thread."""

    def __init__(self, artifacts: FolderArtifacts, *, capacity: int = CAPACITY) -> None:
        self._artifacts = artifacts
        self._capacity = capacity
        self._decoders: OrderedDict[str, Decoder] = OrderedDict()
        self._lock = threading.Lock()

    def draw(self, decoder: str, *, label: str, slot: int, seeds: Sequence[int]) -> Pixels:
        """Images of one label, one per seed: uint8 [len(seeds), side, side], 0 = background.

        `decoder` is the sha256 of the version's decoder.onnx. Raises ArtifactMissing, ArtifactCorrupt
        or NotADecoder when the stored bytes are not what was published: never a wrong image.
        """
        loaded = self._loaded(decoder)
        return np.stack([loaded.draw(slot, noise(label, seed, loaded.latent)) for seed in seeds])

    def without_file(self) -> set[str]:
        """Loaded decoders whose artifact is away: purged, or in a folder that is not there at this moment."""
        with self._lock:
            return {sha256 for sha256 in self._decoders if not self._artifacts.holds(sha256)}

    def forget(self, decoders: Collection[str]) -> None:
        """Let go of these: what was purged stays in no memory either."""
        with self._lock:
            for sha256 in decoders:
                self._decoders.pop(sha256, None)

    def _loaded(self, sha256: str) -> "Decoder":
        with self._lock:  # loading takes a few ms: one thread loads, the others wait for it
            if sha256 not in self._decoders:
                self._decoders[sha256] = Decoder.load(sha256, self._artifacts.read(sha256))
                if len(self._decoders) > self._capacity:
                    self._decoders.popitem(last=False)
            self._decoders.move_to_end(sha256)
            return self._decoders[sha256]


@dataclass(frozen=True)
class Decoder:
    """A loaded decoder: (noise float32 [1, latent], slot int64 [1]) -> images float32 [1, side * side]."""

    sha256: str
    session: onnxruntime.InferenceSession
    latent: int

    @classmethod
    def load(cls, sha256: str, data: bytes) -> "Decoder":
        """The decoder those bytes hold; NotADecoder when they hold none."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # what goes wrong is raised; nothing is printed beside it
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            inputs = {entry.name: entry for entry in session.get_inputs()}
            latent = inputs["noise"].shape[1]
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise NotADecoder(sha256, "it is not an ONNX decoder") from error
        if set(inputs) != {"noise", "slot"} or not isinstance(latent, int):
            raise NotADecoder(sha256, "its inputs are not noise [n, latent] and slot [n]")
        return cls(sha256, session, latent)

    def draw(self, slot: int, noise: NDArray[np.float32]) -> Pixels:
        """One image, uint8 [side, side]: round(255 x) of the decoder's x in [0, 1], halves to even."""
        feed = {"noise": noise[None], "slot": np.array([slot], dtype=np.int64)}
        try:
            (images,) = self.session.run(["images"], feed)
        except Exception as error:  # as above
            raise NotADecoder(self.sha256, f"it does not decode slot {slot}") from error
        image = np.asarray(images)
        side = math.isqrt(image.size)
        if side * side != image.size or not np.isfinite(image).all():
            raise NotADecoder(self.sha256, f"slot {slot} decodes to something that is no image")
        rounded: Pixels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
        return rounded.reshape(side, side)


def noise(label: str, seed: int, latent: int) -> NDArray[np.float32]:
    """Standard normal noise [latent], the same on every call: Philox keyed by sha256 of (label, seed)."""
    digest = hashlib.sha256(f"{label}\0{seed}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(latent).astype(np.float32)
