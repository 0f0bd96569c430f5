"""The paper's network: a fully connected conditional VAE, encoder 784-512-256-2*8 and the decoder mirrored.

Hidden units use SiLU and no normalisation across units: adding a unit with zero outgoing weights then changes
no output, removing a unit equals zeroing its outgoing weights, and one matmul a layer gives the exact Fisher
(docs/decisions/0001-no-normalisation-across-units.md).
"""

import itertools
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from worker.learning.checkpoint import Prior, Spec
from worker.learning.networks.network import NO_MASKS, Masks, Network, Seam, Use, Width


class MlpParams(BaseModel):
    """What a client may choose when it creates a model."""

    model_config = ConfigDict(extra="forbid")
    encoder_widths: tuple[Width, ...] = Field(
        (512, 256), min_length=1, max_length=6, description="hidden units"
    )
    decoder_widths: tuple[Width, ...] = Field(
        (256, 512), min_length=1, max_length=6, description="hidden units"
    )
    latent: int = Field(8, ge=1, le=128, description="size of the latent code z")
    prior: Prior = Field("fitted", description="of z: a Gaussian fitted to each label, or N(0, I) for all")


class Layer(nn.Linear):
    """A linear layer with, where the label enters, a bias for each slot: the columns of its one-hot code."""

    def __init__(self, entering: int, leaving: int, slots: int | None = None) -> None:
        super().__init__(entering, leaving)
        self.label = None if slots is None else nn.Parameter(torch.zeros(slots, leaving))

    def forward(self, entered: Tensor, slots: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(entered)
        return out if self.label is None or slots is None else out + self.label[slots]


class Mlp(Network):
    """Both networks as multilayer perceptrons; the label enters the first layer of each."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = _stack([spec.pixels, *spec.encoder_widths, 2 * spec.latent], spec.slots)
        self.decoder = _stack([spec.latent, *spec.decoder_widths, spec.pixels], spec.slots)

    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, uses: list[Use] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.posterior(self._through("encoder", images, slots, masks, uses))

    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, uses: list[Use] | None = None
    ) -> Tensor:
        return self._through("decoder", latents, slots, masks, uses)

    def seams(self) -> list[Seam]:
        sides = (("encoder", self.encoder), ("decoder", self.decoder))
        return [
            Seam(f"{side}.{index}", f"{side}.{index + 1}")
            for side, layers in sides
            for index in range(len(layers) - 1)
        ]

    def _through(
        self, side: str, entered: Tensor, slots: Tensor, masks: Masks, uses: list[Use] | None
    ) -> Tensor:
        layers: nn.ModuleList = getattr(self, side)
        for index, layer in enumerate(layers):
            name = f"{side}.{index}"
            preactivation = self.computed(layer, entered, slots)
            if uses is not None:
                uses.append(Use(name, entered, preactivation))
            if index == len(layers) - 1:
                return preactivation
            entered = functional.silu(preactivation)
            if name in masks:
                entered = entered * masks[name]
        raise AssertionError("a stack has at least one layer")


def _stack(widths: Sequence[int], slots: int) -> nn.ModuleList:
    pairs = enumerate(itertools.pairwise(widths))
    return nn.ModuleList(Layer(a, b, slots if index == 0 else None) for index, (a, b) in pairs)
