"""Architectures: one file, one architecture. `build` makes a checkpoint a network, `blank` starts a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel

from worker.learning.checkpoint import Checkpoint, Spec
from worker.learning.networks.conv import Conv, ConvParams
from worker.learning.networks.mlp import Mlp, MlpParams
from worker.learning.networks.network import Network


@dataclass(frozen=True)
class Architecture:
    name: str
    network: type[Network]
    Params: type[BaseModel]
    summary: str


ARCHITECTURES = {
    "mlp": Architecture("mlp", Mlp, MlpParams, "Fully connected conditional VAE (the paper's 512/256/8)"),
    "conv": Architecture(
        "conv", Conv, ConvParams, "Convolutional conditional VAE, two fifths of the weights"
    ),
}


def blank(network: Mapping[str, Any], *, seed: int, pixels: int = 784) -> Checkpoint:
    """A model before its first version: random weights, no labels. `network` is what the client asked for.

    Raises pydantic.ValidationError for fields the architecture does not have.
    """
    asked = dict(network)
    architecture = ARCHITECTURES[asked.pop("architecture", "mlp")]
    params = architecture.Params.model_validate(asked)
    spec = Spec(architecture=architecture.name, slots=0, pixels=pixels, **params.model_dump())
    built = architecture.network(spec)
    built.initialise(torch.Generator().manual_seed(seed))
    return Checkpoint(spec=spec, weights=weights_of(built))


def outline(spec: Spec) -> Network:
    """The network of a spec without weights: for questions about its structure."""
    with torch.device("meta"):
        return ARCHITECTURES[spec.architecture].network(spec)


def fresh(checkpoint: Checkpoint, generator: torch.Generator) -> Checkpoint:
    """The same spec and labels with random weights and nothing learnt: no weight, prior or Fisher stays."""
    network = ARCHITECTURES[checkpoint.spec.architecture].network(checkpoint.spec)
    network.initialise(generator)
    return replace(checkpoint, weights=weights_of(network), fisher=None)


def build(checkpoint: Checkpoint, device: torch.device) -> Network:
    """A trainable network with the checkpoint's weights, on `device`."""
    network = ARCHITECTURES[checkpoint.spec.architecture].network(checkpoint.spec)
    network.load_state_dict({name: tensor.clone() for name, tensor in checkpoint.weights.items()})
    return network.to(device)


def frozen(checkpoint: Checkpoint, device: torch.device) -> Network:
    """The teacher: the checkpoint's network, without gradients."""
    return build(checkpoint, device).requires_grad_(False)


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's state as CPU tensors of their own."""
    return {name: tensor.detach().cpu().clone() for name, tensor in sorted(network.state_dict().items())}
