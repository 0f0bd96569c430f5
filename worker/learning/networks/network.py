"""The base class of every architecture: a conditional VAE whose hidden layers can be resized."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from worker.learning.checkpoint import Spec
from worker.learning.mixtures import component_edges, empty_priors

Masks = Mapping[str, Tensor]  # hidden layer name -> [units], 1 keeps a unit and 0 drops it
NO_MASKS: Masks = {}
MAX_UNITS = 4096
Width = Annotated[int, Field(ge=1, le=MAX_UNITS)]  # units of a hidden layer
PRIORS = ("prior_weight", "prior_mean", "prior_scale")  # the buffers of the label priors
LOGVAR_BOUND = 10.0  # of the posterior, in either direction


class LayerCall(NamedTuple):
    """The input and output of one layer in a forward pass, recorded for the exact Fisher information."""

    layer: str
    inputs: Tensor  # [batch, in, ...]
    preactivation: Tensor  # [batch, out, ...]


class PrunableLayer(NamedTuple):
    """A hidden layer whose units can be added and removed, and the layer that its units feed.

    name, following: the names of the two layers, as in the state dict.
    rows_per_unit: number of consecutive entries along the first axis of the layer's weight and bias that make
        up a unit. For a dense layer that is reshaped to channels, it is the number of pixels of a channel.
    columns_per_unit: number of consecutive entries along the second axis of the following weight that a unit
        feeds. For a channel that is flattened, it is the number of its pixels.
    max_units: maximum number of units of the layer, at creation and after every resize.
    row_parameters: names within the layer of the parameters that have `rows_per_unit` entries along their
        first axis for each unit. They are all that enters a unit, but for the label embeddings.
    """

    name: str
    following: str
    rows_per_unit: int = 1
    columns_per_unit: int = 1
    max_units: int = MAX_UNITS
    row_parameters: tuple[str, ...] = ("weight", "bias")

    @property
    def incoming(self) -> list[str]:
        """The names of the row parameters, as in the state dict."""
        return [f"{self.name}.{parameter}" for parameter in self.row_parameters]


class Network(nn.Module, ABC):
    """A conditional VAE: p(x | z, c) and q(z | x, c) as networks, p(z | c) as a mixture of Gaussians.

    Labels are given as slots, the indices of the rows of label embedding tables. `encode` and `decode` take
    `masks` (hidden units to drop) and `calls` (a list to which the call of every layer is appended).
    """

    prior_weight: Tensor  # [slots, components], sums to 1; components that are not used come last, with 0
    prior_mean: Tensor  # [slots, components, latent]
    prior_scale: Tensor  # [slots, components, latent, latent], lower triangular: z = mean + scale @ noise

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.pixels, self.latent, self.prior = spec.pixels, spec.latent, spec.prior
        self.precision = torch.float32  # of the matrix products in training; weights are always float32
        self.components = spec.components
        for name, tensor in empty_priors(range(spec.slots), spec.latent, spec.components).items():
            self.register_buffer(name, tensor)

    def initialise(self, generator: torch.Generator) -> None:
        """Set He-normal weights, zero biases and zero label embeddings, in place."""
        for name, tensor in sorted(self.named_parameters()):
            if name.endswith("weight"):
                tensor.data.normal_(0.0, math.sqrt(2 / tensor[0].numel()), generator=generator)
            else:
                tensor.data.zero_()

    @abstractmethod
    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute q(z | x, c): images [batch, pixels] in [0, 1] -> mean and logvar, each [batch, latent].

        slots: int64 [batch], the label slot of each image; a slot selects the label's embedding.
        masks: hidden layer name -> [units], 1 keeps a unit and 0 drops it.
        calls: a list to which every layer's call is appended, for the Fisher information and the curvature.
        """

    @abstractmethod
    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> Tensor:
        """Compute the logits of p(x = 1 | z, c), [batch, pixels]; their sigmoid is the mean image.

        latents: [batch, latent]. slots, masks, calls: see `encode`.
        """

    @abstractmethod
    def prunable_layers(self) -> list[PrunableLayer]:
        """List the hidden layers in the order of the spec's widths, except posterior and output layers."""

    def apply_layer(self, layer: nn.Module, *inputs: Tensor) -> Tensor:
        """Apply a layer to its inputs, in the network's precision; the result has the type of the first."""
        lower = self.precision is torch.bfloat16
        with torch.autocast(inputs[0].device.type, dtype=torch.bfloat16, enabled=lower):
            out: Tensor = layer(*inputs)
        return out.to(inputs[0].dtype)

    def posterior(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Split the encoder's output, [batch, 2 latent], into mean and logvar; logvar within +-LOGVAR_BOUND.

        Without a bound, exp(logvar) overflowed for images unlike any that the encoder was trained on (noise),
        at the first step of a forget. The bound is smooth, so that gradients do not vanish at it.
        """
        mean, logvar = heads.chunk(2, dim=1)
        return mean, LOGVAR_BOUND * (logvar / LOGVAR_BOUND).tanh()

    def noise(self, slots: Tensor, generator: torch.Generator) -> Tensor:
        """Draw noise for a posterior, [batch, latent], standard normal.

        It is drawn on the CPU, so that it is the same on every device.
        """
        return torch.randn((len(slots), self.latent), generator=generator).to(slots.device)

    @property
    def noise_size(self) -> int:
        """The numbers of noise that a draw takes; one chooses the component where there are several."""
        return noise_size(self.latent, self.components)

    def prior_noise(self, slots: Tensor, generator: torch.Generator) -> Tensor:
        """Draw noise for `sample_prior`, [batch, noise_size], standard normal; on the CPU, as in `noise`."""
        return torch.randn((len(slots), self.noise_size), generator=generator).to(slots.device)

    def sample_prior(self, noise: Tensor, slots: Tensor) -> Tensor:
        """Turn standard normal noise [batch, noise_size] into z ~ p(z | c), [batch, latent].

        The last number chooses the component if the network has room for several (`component_edges`).
        """
        if self.components == 1:
            chosen = torch.zeros_like(slots)
        else:
            edges = component_edges(self.prior_weight)[slots]
            chosen = (noise[:, self.latent :] > edges).sum(dim=1)
        spread = torch.einsum("bij,bj->bi", self.prior_scale[slots, chosen], noise[:, : self.latent])
        return self.prior_mean[slots, chosen] + spread

    def priors(self) -> dict[str, Tensor]:
        """Return the tensors of the label priors, by the name of their buffer."""
        return {name: self.get_buffer(name) for name in PRIORS}

    def copy_priors(self, other: "Network", slots: Sequence[int]) -> None:
        """Set the priors of these slots, in place, to those of the other network."""
        for name, tensor in self.priors().items():
            tensor[slots] = other.get_buffer(name)[slots]


def noise_size(latent: int, components: int) -> int:
    """Return the numbers of noise that a draw takes: see `Network.sample_prior`."""
    return latent + (components > 1)
