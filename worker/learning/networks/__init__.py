"""Architectures, one file each; from params to the first checkpoint (`blank`), and to a network (`build`)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel

from worker.learning.checkpoint import Checkpoint, Spec
from worker.learning.networks.conv import Conv, ConvParams
from worker.learning.networks.hyper import Hyper, HyperParams
from worker.learning.networks.mlp import Mlp, MlpParams
from worker.learning.networks.network import Network
from worker.learning.package import NameTaken, Package

MIXTURE_COMPONENTS = 8
"""How many Gaussians a prior of the kind `mixture` may have."""


@dataclass(frozen=True)
class Architecture:
    """A network class, its params, and what the API says about it."""

    name: str
    network: type[Network]
    Params: type[BaseModel]
    summary: str
    package: Package | None = None
    """The package that brings it; None if it is built in."""


ARCHITECTURES = {
    "mlp": Architecture("mlp", Mlp, MlpParams, "Fully connected conditional VAE (the paper's 512/256/8)."),
    "conv": Architecture(
        "conv", Conv, ConvParams, "Convolutional conditional VAE, with two fifths of the weights of `mlp`."
    ),
    "hyper": Architecture(
        "hyper",
        Hyper,
        HyperParams,
        "Fully connected conditional VAE whose weights a hypernetwork makes for each label, with as many "
        "parameters as `mlp`.",
    ),
}


def add(architecture: Architecture) -> None:
    """Add the architecture of another package. Raises NameTaken."""
    if taken := ARCHITECTURES.get(architecture.name):
        by = "is built in" if taken.package is None else f"comes from the package {taken.package.name}"
        raise NameTaken(f"another architecture called {architecture.name!r} {by}")
    ARCHITECTURES[architecture.name] = architecture


def blank(network: Mapping[str, Any], *, seed: int, pixels: int = 784) -> Checkpoint:
    """Create the first checkpoint of a model: random weights and no labels.

    network: the `network` of the request that creates the model: the architecture's name and its params.
    Raises KeyError for an unknown architecture, pydantic.ValidationError for invalid params.
    """
    requested = dict(network)
    architecture = ARCHITECTURES[requested.pop("architecture", "mlp")]
    return make_blank(architecture, requested, seed=seed, pixels=pixels)


def make_blank(
    architecture: Architecture, requested: Mapping[str, Any], *, seed: int, pixels: int = 784
) -> Checkpoint:
    """Create the first checkpoint of a model of this architecture. requested: its params. See `blank`."""
    params = architecture.Params.model_validate(requested)
    spec = Spec(architecture=architecture.name, slots=0, pixels=pixels, **params.model_dump())
    if spec.prior == "mixture":
        spec = replace(spec, components=MIXTURE_COMPONENTS)
    built = architecture.network(spec)
    built.initialise(torch.Generator().manual_seed(seed))
    return Checkpoint(spec=spec, weights=weights_of(built))


def structure_of(spec: Spec) -> Network:
    """Build the network of a spec on the meta device, without weights, to inspect its structure."""
    with torch.device("meta"):
        return ARCHITECTURES[spec.architecture].network(spec)


def with_random_weights(checkpoint: Checkpoint, generator: torch.Generator) -> Checkpoint:
    """Return the checkpoint with new random weights, standard priors and no Fisher information."""
    network = ARCHITECTURES[checkpoint.spec.architecture].network(checkpoint.spec)
    network.initialise(generator)
    return replace(checkpoint, weights=weights_of(network), fisher=None)


def build(checkpoint: Checkpoint, device: torch.device) -> Network:
    """Build a trainable network with the weights of the checkpoint's main network, on `device`."""
    return with_weights(ARCHITECTURES[checkpoint.spec.architecture], checkpoint).to(device)


def with_weights(architecture: Architecture, checkpoint: Checkpoint) -> Network:
    """Build a network of this architecture with the weights of the checkpoint's main network, on the CPU."""
    network = architecture.network(checkpoint.spec)
    network.load_state_dict({name: tensor.clone() for name, tensor in checkpoint.weights.items()})
    return network


def frozen(
    checkpoint: Checkpoint, device: torch.device, *, precision: torch.dtype = torch.float32
) -> Network:
    """Build the main network with frozen parameters: a teacher, or a network to measure.

    precision: of its matrix products.
    """
    network = build(checkpoint, device).requires_grad_(False)
    network.precision = precision
    return network


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copy the network's state dict to the CPU: name -> tensor."""
    return {name: tensor.detach().cpu().clone() for name, tensor in sorted(network.state_dict().items())}
