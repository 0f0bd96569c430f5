"""What every architecture offers: a conditional VAE that can be resized, and whose Fisher is exact."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from worker.learning.checkpoint import Spec

Masks = Mapping[str, Tensor]  # hidden layer name -> [units], 1 keeps a unit and 0 drops it
NO_MASKS: Masks = {}
WIDEST = 4096
Width = Annotated[int, Field(ge=1, le=WIDEST)]  # hidden units of a layer
LOGVAR_BOUND = 10.0


class Use(NamedTuple):
    """One use of a layer in a forward pass: what the exact Fisher needs."""

    layer: str
    entered: Tensor  # [batch, in, ...]
    preactivation: Tensor  # [batch, out, ...]


class Seam(NamedTuple):
    """A hidden layer that can be resized, and the layer its units feed.

    A unit is `rows` consecutive entries of the layer's bias and first weight axis (of a dense layer
    reshaped into channels: a channel's pixels), and `columns` consecutive ones of the following layer's
    second axis. The layer has `most` units at the most, when a model is created and ever after.
    """

    layer: str
    following: str
    rows: int = 1
    columns: int = 1
    most: int = WIDEST


class Network(nn.Module, ABC):
    """p(x | z, c) and q(z | x, c) as networks, and p(z | c) as one Gaussian a label."""

    prior_mean: Tensor  # [slots, latent]
    prior_scale: Tensor  # [slots, latent, latent], lower triangular: z = mean + scale @ noise

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.pixels, self.latent, self.prior = spec.pixels, spec.latent, spec.prior
        self.precision = torch.float32  # of the matrix products while training; weights are float32 always
        self.register_buffer("prior_mean", torch.zeros(spec.slots, spec.latent))
        identities = torch.zeros(spec.slots, spec.latent, spec.latent)
        identities.diagonal(dim1=1, dim2=2).fill_(1.0)  # torch.eye on `meta` imports a compiler: 6 s of CPU
        self.register_buffer("prior_scale", identities)

    def initialise(self, generator: torch.Generator) -> None:
        """He-normal weights, zero biases and zero label columns."""
        for name, tensor in sorted(self.named_parameters()):
            if name.endswith("weight"):
                tensor.data.normal_(0.0, math.sqrt(2 / tensor[0].numel()), generator=generator)
            else:
                tensor.data.zero_()

    @abstractmethod
    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, uses: list[Use] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Posterior q(z | x, c): images [batch, pixels] in [0, 1] -> mean, logvar, each [batch, latent]."""

    @abstractmethod
    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, uses: list[Use] | None = None
    ) -> Tensor:
        """Logits of p(x = 1 | z, c), [batch, pixels]; their sigmoid is the mean image."""

    @abstractmethod
    def seams(self) -> list[Seam]:
        """The hidden layers in the order of the spec's widths, each with the layer after it.

        Never the mean/logvar heads, nor the output.
        """

    def computed(self, layer: nn.Module, entered: Tensor, slots: Tensor) -> Tensor:
        """What a layer makes of its input, in the network's precision and the input's type."""
        lower = self.precision is torch.bfloat16
        with torch.autocast(entered.device.type, dtype=torch.bfloat16, enabled=lower):
            out: Tensor = layer(entered, slots)
        return out.to(entered.dtype)

    def posterior(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logvar from the encoder's last layer, [batch, 2 latent]; logvar within +-LOGVAR_BOUND.

        What an encoder says of images unlike any it has seen, as noise is, has no bound of its own: its exp
        overflowed at the first step of a forgetting. The bound is smooth, so there is a way back from it.
        """
        mean, logvar = heads.chunk(2, dim=1)
        return mean, LOGVAR_BOUND * (logvar / LOGVAR_BOUND).tanh()

    def noise(self, slots: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal noise [batch, latent], drawn on the CPU: the same on every device."""
        return torch.randn((len(slots), self.latent), generator=generator).to(slots.device)

    def sample_prior(self, noise: Tensor, slots: Tensor) -> Tensor:
        """z ~ p(z | c) from standard normal noise [batch, latent]."""
        return self.prior_mean[slots] + torch.einsum("bij,bj->bi", self.prior_scale[slots], noise)
