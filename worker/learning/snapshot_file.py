"""The bytes of a snapshot: its sha256, then a safetensors file whose header holds all that is no tensor."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

MAGIC = b"palimpsest snapshot 1\n"
"""Its number is that of the format. Increase it when the format changes: then old snapshots are ignored."""
TENSOR = "$tensor"


class NotASnapshot(ValueError):
    """The bytes are no snapshot, or they are damaged; the message says what was found."""


def write_snapshot(content: Mapping[str, Any]) -> bytes:
    """Write nested dictionaries and lists of JSON values and tensors. The tensors may lie on any device."""
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_without_tensors(content, tensors))
    data = safetensors.torch.save(tensors, metadata={"palimpsest": header})
    return MAGIC + sha256(data).digest() + data


def read_snapshot(data: bytes) -> dict[str, Any]:
    """Read what `write_snapshot` wrote; tensors are on the CPU, tuples become lists. Raises NotASnapshot."""
    if not data.startswith(MAGIC):
        raise NotASnapshot(f"{len(data)} bytes that do not begin with {MAGIC!r}")
    digest, content = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if sha256(content).digest() != digest:
        raise NotASnapshot(f"the sha256 of its {len(content)} bytes is not the one that it was saved with")
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])["__metadata__"]["palimpsest"]
        return dict(_with_tensors(json.loads(header), safetensors.torch.load(content)))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise NotASnapshot(f"its content cannot be read: {error!r}") from error


def _without_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Replace every tensor by the name under which it is added to `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {TENSOR: name}
    if isinstance(value, Mapping):
        return {key: _without_tensors(one, tensors) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(one, tensors) for one in value]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]].clone()  # aligned in memory as a new tensor is
        return {key: _with_tensors(one, tensors) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_tensors(one, tensors) for one in value]
    return value
