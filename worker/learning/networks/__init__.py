"""Architectures, one file each. `blank` starts a model; `build` turns a checkpoint into a network."""

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
    "mlp": Architecture("mlp", Mlp, MlpParams, "Fully connected conditional VAE (the paper's 512/256/8)."),
    "conv": Architecture(
        "conv", Conv, ConvParams, "Convolutional conditional VAE, with two fifths of the weights."
    ),
}


def blank(network: Mapping[str, Any], *, seed: int, pixels: int = 784) -> Checkpoint:
    """Create the checkpoint of a model before its first version: random weights and no labels.

    network: the `network` of the request that created the model: the architecture's name, and its params.
    Raises KeyError for an unknown architecture, pydantic.ValidationError for params that it does not have.
    """
    requested = dict(network)
    architecture = ARCHITECTURES[requested.pop("architecture", "mlp")]
    params = architecture.Params.model_validate(requested)
    spec = Spec(architecture=architecture.name, slots=0, pixels=pixels, **params.model_dump())
    built = architecture.network(spec)
    built.initialise(torch.Generator().manual_seed(seed))
    return Checkpoint(spec=spec, weights=weights_of(built))


def structure_of(spec: Spec) -> Network:
    """Build the network of a spec on the meta device, without weights: for questions about its structure."""
    with torch.device("meta"):
        return ARCHITECTURES[spec.architecture].network(spec)


def with_random_weights(checkpoint: Checkpoint, generator: torch.Generator) -> Checkpoint:
    """Return the same spec and labels with newly drawn weights, standard priors and no Fisher information."""
    network = ARCHITECTURES[checkpoint.spec.architecture].network(checkpoint.spec)
    network.initialise(generator)
    return replace(checkpoint, weights=weights_of(network), fisher=None)


def build(checkpoint: Checkpoint, device: torch.device) -> Network:
    """Build a trainable network with the weights of the checkpoint's main network, on `device`."""
    network = ARCHITECTURES[checkpoint.spec.architecture].network(checkpoint.spec)
    network.load_state_dict({name: tensor.clone() for name, tensor in checkpoint.weights.items()})
    return network.to(device)


def frozen(checkpoint: Checkpoint, device: torch.device) -> Network:
    """Build the checkpoint's network without gradients: a teacher, or a network to measure."""
    return build(checkpoint, device).requires_grad_(False)


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copy the network's state to the CPU, name -> tensor."""
    return {name: tensor.detach().cpu().clone() for name, tensor in sorted(network.state_dict().items())}
