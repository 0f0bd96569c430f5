"""What kind of machine computes: two runs on the same kind give the same bytes, on two kinds they may not."""

import torch


def machine_kind(device: torch.device, precision: torch.dtype = torch.float32) -> str:
    """Describe the machine by what the last bits of a result depend on.

    These are the version of torch, the device, the vector instructions of the CPU, the number of threads and
    the precision of the matrix products.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    instructions, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return (
        f"torch {torch.__version__}, {name}, {instructions}, {threads} threads, "
        f"{str(precision).removeprefix('torch.')}"
    )
