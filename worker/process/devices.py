"""Where and how the worker computes: device, threads, and the same bytes from the same seed."""

import os

import torch


class DeviceUnavailable(Exception):
    """The device the deployment asks for is not in this machine."""


def choose_device(name: str) -> torch.device:
    """`auto` takes the first GPU if there is one. Raises DeviceUnavailable."""
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
    """Of the matrix products of a training: `auto` takes bfloat16 on a GPU, float32 on a CPU."""
    lower = device.type == "cuda" if name == "auto" else name == "bfloat16"
    return torch.bfloat16 if lower else torch.float32


def compute_reproducibly(threads: int) -> None:
    """Fix whatever else could change a result: thread count, kernels, denormals.

    threads: 0 takes one. Sums depend on how many threads share them, so the count is never chosen by the load
    of the moment: a job that is run again must give the same bytes.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, at its first use
    torch.set_num_threads(threads or 1)
    torch.set_flush_denormal(True)  # squared gradients are tiny: 3 times faster, same Fisher
    # As use_deterministic_algorithms(True), which also imports a compiler nothing here uses: 6 s of CPU
    torch.set_deterministic_debug_mode("error")
