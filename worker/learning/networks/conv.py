"""A convolutional conditional VAE: two strided convolutions and a dense layer to z, mirrored in the decoder.

A unit of a convolution is a channel. As in `mlp`, hidden units use SiLU without normalisation across units,
so that adding units, removing units and the exact Fisher information work in the same way
(docs/decisions/0001-no-normalisation-across-units.md).
"""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from worker.learning.checkpoint import Prior, Spec
from worker.learning.networks.layers import ConditionalConv2d, ConditionalLinear
from worker.learning.networks.network import NO_MASKS, LayerCall, Masks, Network, PrunableLayer, Width

# A kernel has 9 weights for every pair of channels: 512 x 512 channels have as many weights as 1536 x 1536
# units of a dense layer.
MAX_CHANNELS = 512
Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]


class ConvParams(BaseModel):
    """What a client may choose when it creates a model of this architecture."""

    model_config = ConfigDict(extra="forbid")
    encoder_widths: tuple[Channels, Channels, Width] = Field(
        (16, 32, 128),
        description="Channels at half the image's side, channels at a quarter of it, units of the dense "
        "layer.",
    )
    decoder_widths: tuple[Width, Channels, Channels] = Field(
        (128, 32, 16),
        description="Units of the dense layer, channels at a quarter of the image's side, channels at half "
        "of it.",
    )
    latent: int = Field(8, ge=1, le=128, description="Dimensions of the latent code z.")
    prior: Prior = Field(
        "mixture",
        description="Prior of z. `mixture`: a mixture of Gaussians fitted to each label, with as many as fit "
        "held-out images best. `fitted`: one Gaussian fitted to each label. `standard`: N(0, I) for all.",
    )


class Conv(Network):
    """A conditional VAE for images of side 4s: convolutions to sides 2s and s, dense to z, and back."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.side = math.isqrt(spec.pixels)
        if self.side**2 != spec.pixels or self.side % 4:
            raise ValueError(
                f"images must be square with a side that is a multiple of 4; these have {spec.pixels} pixels"
            )
        area = (self.side // 4) ** 2
        wide, deep, hidden = spec.encoder_widths
        self.encoder = nn.ModuleList(
            [
                ConditionalConv2d(1, wide, stride=2, slots=spec.slots),
                ConditionalConv2d(wide, deep, stride=2),
                ConditionalLinear(deep * area, hidden),
                ConditionalLinear(hidden, 2 * spec.latent),
            ]
        )
        hidden, deep, wide = spec.decoder_widths
        self.decoder = nn.ModuleList(
            [
                ConditionalLinear(spec.latent, hidden, spec.slots),
                ConditionalLinear(hidden, deep * area),
                ConditionalConv2d(deep, wide),
                ConditionalConv2d(wide, 1),
            ]
        )

    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> tuple[Tensor, Tensor]:
        inputs = images.view(-1, 1, self.side, self.side)
        for index in (0, 1):
            inputs = self._hidden(f"encoder.{index}", inputs, slots, masks, calls)
        hidden = self._hidden("encoder.2", inputs.flatten(1), slots, masks, calls)
        return self.posterior(self._preactivation("encoder.3", hidden, slots, calls))

    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> Tensor:
        hidden = self._hidden("decoder.0", latents, slots, masks, calls)
        small = self._hidden("decoder.1", hidden, slots, masks, calls, rows_per_unit=(self.side // 4) ** 2)
        small = small.view(len(small), -1, self.side // 4, self.side // 4)
        middle = self._hidden("decoder.2", upsample(small), slots, masks, calls)
        return self._preactivation("decoder.3", upsample(middle), slots, calls).flatten(1)

    def prunable_layers(self) -> list[PrunableLayer]:
        area = (self.side // 4) ** 2
        return [
            PrunableLayer("encoder.0", "encoder.1", max_units=MAX_CHANNELS),
            PrunableLayer("encoder.1", "encoder.2", columns_per_unit=area, max_units=MAX_CHANNELS),
            PrunableLayer("encoder.2", "encoder.3"),
            PrunableLayer("decoder.0", "decoder.1"),
            PrunableLayer("decoder.1", "decoder.2", rows_per_unit=area, max_units=MAX_CHANNELS),
            PrunableLayer("decoder.2", "decoder.3", max_units=MAX_CHANNELS),
        ]

    def _hidden(
        self,
        name: str,
        inputs: Tensor,
        slots: Tensor,
        masks: Masks,
        calls: list[LayerCall] | None,
        rows_per_unit: int = 1,
    ) -> Tensor:
        activation = functional.silu(self._preactivation(name, inputs, slots, calls))
        if name not in masks:
            return activation
        mask = masks[name].repeat_interleave(rows_per_unit)
        return activation * mask.view(1, -1, *[1] * (activation.dim() - 2))

    def _preactivation(
        self, name: str, inputs: Tensor, slots: Tensor, calls: list[LayerCall] | None
    ) -> Tensor:
        preactivation = self.apply_layer(self.get_submodule(name), inputs, slots)
        if calls is not None:
            calls.append(LayerCall(name, inputs, preactivation))
        return preactivation


def upsample(images: Tensor) -> Tensor:
    """Double an image's side by repeating pixels, [n, channels, side, side] -> [n, channels, 2 side, 2 side].

    It is an expanded view and a copy, because their backward pass is deterministic on every device.
    """
    n, channels, height, width = images.shape
    wide = images[:, :, :, None, :, None].expand(n, channels, height, 2, width, 2)
    return wide.reshape(n, channels, 2 * height, 2 * width)
