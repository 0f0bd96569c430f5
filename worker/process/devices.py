"""The device and precision a worker computes with, and settings that make results reproducible."""

import os

import torch

BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Those with which bfloat16 was measured to be faster (docs/decisions/0161)."""


class DeviceUnavailable(Exception):
    """The device that PALIMPSEST_DEVICE names does not exist on this machine, or cannot be used."""


def choose_device(name: str) -> torch.device:
    """Return the device; `auto` is the first GPU if there is one, else the CPU. Raises DeviceUnavailable."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceUnavailable(
            f"PALIMPSEST_DEVICE={name} cannot be used here ({error}); try auto or cpu"
        ) from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products in training.

    `auto` is bfloat16 on a CPU that has instructions for it (docs/decisions/0161), and float32 elsewhere:
    networks of this size are no faster in bfloat16 on a GPU, because sending its kernels takes longer than
    computing them (docs/decisions/0145).
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cpu" and multiplies_bfloat16() else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions for products of bfloat16 numbers."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


def compute_reproducibly(threads: int) -> None:
    """Fix what could make two runs of a job differ: the number of threads, the kernels, denormal numbers.

    threads: how many CPU threads torch uses; 0 means one. A sum depends on the number of threads that
    share it. It never follows the load of the machine, because a job must give the same bytes again.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, at its first use
    torch.set_num_threads(threads or 1)
    torch.backends.cudnn.allow_tf32 = False  # else float32 convolutions on a GPU have 10 bits of mantissa
    torch.set_flush_denormal(True)  # many squared gradients are denormal: Fisher information 3 times faster
    # use_deterministic_algorithms(True) does the same, but also imports a compiler: 6 s of CPU
    torch.set_deterministic_debug_mode("error")
