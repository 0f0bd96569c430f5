"""A convolutional network: two strided convolutions and a dense layer down to z, and the same way up again.

A unit of a convolution is a channel. As in the paper's network there is SiLU and no normalisation across
units: growing, pruning and the exact Fisher hold here too
(docs/decisions/0001-no-normalisation-across-units.md).
"""

import math
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from worker.learning.checkpoint import Prior, Spec
from worker.learning.networks.mlp import Layer
from worker.learning.networks.network import NO_MASKS, Masks, Network, Seam, Use, Width

# A kernel has nine weights for every pair of channels: 512 x 512 are as many as 1536 x 1536 units have.
MOST_CHANNELS = 512
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]


class ConvParams(BaseModel):
    """What a client may choose when it creates a model."""

    model_config = ConfigDict(extra="forbid")
    encoder_widths: tuple[Channels, Channels, Width] = Field(
        (16, 32, 128), description="channels at half the side, channels at a quarter, hidden units"
    )
    decoder_widths: tuple[Width, Channels, Channels] = Field(
        (128, 32, 16), description="hidden units, channels at a quarter of the side, channels at half"
    )
    latent: int = Field(8, ge=1, le=128, description="size of the latent code z")
    prior: Prior = Field("fitted", description="of z: a Gaussian fitted to each label, or N(0, I) for all")


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution with, where the label enters, a bias a channel for each slot."""

    def __init__(self, entering: int, leaving: int, *, stride: int = 1, slots: int | None = None) -> None:
        super().__init__(entering, leaving, 3, stride=stride, padding=1)
        self.label = None if slots is None else nn.Parameter(torch.zeros(slots, leaving))

    def forward(self, entered: Tensor, slots: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(entered)
        return out if self.label is None or slots is None else out + self.label[slots][:, :, None, None]


class Conv(Network):
    """Images of side 4 s: convolutions to 2 s and s, dense to z; dense to s, convolutions to 2 s and 4 s."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.side = math.isqrt(spec.pixels)
        if self.side**2 != spec.pixels or self.side % 4:
            raise ValueError(f"the images must be square, the side a multiple of 4; not {spec.pixels} pixels")
        area = (self.side // 4) ** 2
        wide, deep, hidden = spec.encoder_widths
        self.encoder = nn.ModuleList(
            [
                Convolution(1, wide, stride=2, slots=spec.slots),
                Convolution(wide, deep, stride=2),
                Layer(deep * area, hidden),
                Layer(hidden, 2 * spec.latent),
            ]
        )
        hidden, deep, wide = spec.decoder_widths
        self.decoder = nn.ModuleList(
            [
                Layer(spec.latent, hidden, spec.slots),
                Layer(hidden, deep * area),
                Convolution(deep, wide),
                Convolution(wide, 1),
            ]
        )

    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, uses: list[Use] | None = None
    ) -> tuple[Tensor, Tensor]:
        entered = images.view(-1, 1, self.side, self.side)
        for index in (0, 1):
            entered = self._activated(f"encoder.{index}", entered, slots, masks, uses)
        hidden = self._activated("encoder.2", entered.flatten(1), slots, masks, uses)
        return self.posterior(self._used("encoder.3", hidden, slots, uses))

    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, uses: list[Use] | None = None
    ) -> Tensor:
        hidden = self._activated("decoder.0", latents, slots, masks, uses)
        small = self._activated("decoder.1", hidden, slots, masks, uses, rows=(self.side // 4) ** 2)
        small = small.view(len(small), -1, self.side // 4, self.side // 4)
        middle = self._activated("decoder.2", doubled(small), slots, masks, uses)
        return self._used("decoder.3", doubled(middle), slots, uses).flatten(1)

    def seams(self) -> list[Seam]:
        area = (self.side // 4) ** 2
        return [
            Seam("encoder.0", "encoder.1", most=MOST_CHANNELS),
            Seam("encoder.1", "encoder.2", columns=area, most=MOST_CHANNELS),
            Seam("encoder.2", "encoder.3"),
            Seam("decoder.0", "decoder.1"),
            Seam("decoder.1", "decoder.2", rows=area, most=MOST_CHANNELS),
            Seam("decoder.2", "decoder.3", most=MOST_CHANNELS),
        ]

    def _activated(
        self, name: str, entered: Tensor, slots: Tensor, masks: Masks, uses: list[Use] | None, rows: int = 1
    ) -> Tensor:
        activation = functional.silu(self._used(name, entered, slots, uses))
        if name not in masks:
            return activation
        mask = masks[name].repeat_interleave(rows)
        return activation * mask.view(1, -1, *[1] * (activation.dim() - 2))

    def _used(self, name: str, entered: Tensor, slots: Tensor, uses: list[Use] | None) -> Tensor:
        preactivation = self.computed(self.get_submodule(name), entered, slots)
        if uses is not None:
            uses.append(Use(name, entered, preactivation))
        return preactivation


def doubled(images: Tensor) -> Tensor:
    """Every pixel four times, [n, channels, side, side] -> [n, channels, 2 side, 2 side].

    Made of a view and a copy, whose backward is deterministic on every device.
    """
    n, channels, height, width = images.shape
    wide = images[:, :, :, None, :, None].expand(n, channels, height, 2, width, 2)
    return wide.reshape(n, channels, 2 * height, 2 * width)
