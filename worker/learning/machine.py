"""What kind of machine computes: two runs on the same kind give the same bytes, on two kinds they may not."""

import torch


def machine_kind(device: torch.device, precision: torch.dtype = torch.float32) -> str:
    """Describe the machine by what the last bits of a result depend on.

    These are the version of torch, the device, the vector instructions of the CPU, the number of threads and
    the precision of the matrix products; on a CPU, bfloat16 also with its instructions for bfloat16.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    instructions, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    number_format = str(precision).removeprefix("torch.")
    if device.type == "cpu" and precision is torch.bfloat16:
        number_format += f" ({', '.join(_bfloat16_instructions()) or 'no instructions for it'})"
    return f"torch {torch.__version__}, {name}, {instructions}, {threads} threads, {number_format}"


def _bfloat16_instructions() -> list[str]:
    """List the CPU's instructions for bfloat16, which have kernels of their own.

    The vector instructions do not tell them apart: a CPU with AMX and one with neither are `AVX512` as well.
    """
    found = torch.cpu.get_capabilities()
    return sorted(name for name in found if name.endswith("bf16") and found[name])
