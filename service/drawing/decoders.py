"""Draw images with published decoders, which are ONNX files: label and seed -> pixels. Needs no PyTorch.

An image depends on its model, version, label and seed only. The version determines the decoder's bytes and
the label's slot; the label and the seed are the key of a counter-based random generator for the noise. Each
image is decoded in a batch of its own on one thread, so that other images of a request change no bit of it.
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

from service import metrics
from service.registry.artifacts import FolderArtifacts
from service.registry.errors import ArtifactCorrupt, RegistryError

Pixels = NDArray[np.uint8]

MAX_LOADED_DECODERS = 8
"""How many decoders a process keeps loaded."""
UNLOAD_SECONDS = 1.0
"""How often a process unloads decoders whose files were purged, in seconds."""

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

    def __init__(self, artifacts: FolderArtifacts, *, capacity: int = MAX_LOADED_DECODERS) -> None:
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
            loaded = self._loaded(decoder)
            return np.stack([loaded.draw(slot, noise(label, seed, loaded.latent)) for seed in seeds])

    def find_without_file(self) -> set[str]:
        """Return the loaded decoders whose file is missing: it was purged, or its folder is unreachable."""
        with self._lock:
            return {sha256 for sha256 in self._decoders if not self._artifacts.exists(sha256)}

    def unload(self, decoders: Collection[str]) -> None:
        """Remove these decoders from memory."""
        with self._lock:
            for sha256 in decoders:
                self._decoders.pop(sha256, None)

    def _loaded(self, sha256: str) -> "Decoder":
        with self._lock:  # loading takes a few ms; other threads wait meanwhile
            metrics.DECODER_USES.labels("cache" if sha256 in self._decoders else "store").inc()
            if sha256 not in self._decoders:
                self._decoders[sha256] = Decoder.load(sha256, self._artifacts.read(sha256))
                if len(self._decoders) > self._capacity:
                    self._decoders.popitem(last=False)
            self._decoders.move_to_end(sha256)
            return self._decoders[sha256]


@dataclass(frozen=True)
class Decoder:
    """A loaded decoder: noise float32 [n, latent], slot int64 [n] -> images float32 [n, side * side]."""

    sha256: str
    session: onnxruntime.InferenceSession
    latent: int

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
            latent = inputs["noise"].shape[1]
        except Exception as error:  # the errors of ONNX Runtime have no other base class
            raise DecoderUnusable(sha256, "it is not an ONNX decoder") from error
        if set(inputs) != {"noise", "slot"} or not isinstance(latent, int):
            raise DecoderUnusable(sha256, "its inputs are not noise [n, latent] and slot [n]")
        return cls(sha256, session, latent)

    def draw(self, slot: int, noise: NDArray[np.float32]) -> Pixels:
        """Draw one image, uint8 [side, side]: round(255 x), half to even, of the output x in [0, 1]."""
        feed = {"noise": noise[None], "slot": np.array([slot], dtype=np.int64)}
        try:
            (images,) = self.session.run(["images"], feed)
        except Exception as error:  # as above
            raise DecoderUnusable(self.sha256, f"it does not decode slot {slot}") from error
        image = np.asarray(images)
        side = math.isqrt(image.size)
        if side * side != image.size or not np.isfinite(image).all():
            raise DecoderUnusable(
                self.sha256, f"its output for slot {slot} is not a square image of finite numbers"
            )
        rounded: Pixels = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
        return rounded.reshape(side, side)


def noise(label: str, seed: int, latent: int) -> NDArray[np.float32]:
    """Return standard normal noise [latent] from a Philox generator, keyed with the sha256 of both."""
    digest = hashlib.sha256(f"{label}\0{seed}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(latent).astype(np.float32)
