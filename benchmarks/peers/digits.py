"""Draw digits as an application would that serves one decoder: ONNX Runtime, NumPy and Pillow."""

import io
import os

import numpy as np
import onnxruntime
from PIL import Image

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["DECODER"], options, providers=["CPUExecutionProvider"])
LATENT = session.get_inputs()[0].shape[1]


def draw(slots: list[int], seeds: list[int]) -> np.ndarray:
    """Draw an image for each slot and seed: uint8 [n, 28, 28]."""
    noise = np.stack([np.random.default_rng(seed).standard_normal(LATENT) for seed in seeds])
    feed = {"noise": noise.astype(np.float32), "slot": np.array(slots, dtype=np.int64)}
    images = session.run(["images"], feed)[0]
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).reshape(-1, 28, 28)


def encode(images: np.ndarray) -> bytes:
    """Encode the images as one PNG, in as many rows as columns."""
    rows = int(len(images) ** 0.5)
    page = images.reshape(rows, rows, 28, 28).swapaxes(1, 2).reshape(rows * 28, rows * 28)
    file = io.BytesIO()
    Image.fromarray(page).save(file, format="PNG")
    return file.getvalue()


def picture(slot: int, seed: int, count: int) -> bytes:
    """Return `count` images with consecutive seeds, a square number, as one PNG."""
    return encode(draw([slot] * count, list(range(seed, seed + count))))
