"""The paper's network: a fully connected conditional VAE, encoder 784-512-256-2*8, decoder mirrored.

Hidden units use SiLU without normalisation across units. So adding a unit with zero outgoing weights changes
no output, removing a unit equals setting its outgoing weights to zero, and one matrix product for each layer
gives the exact Fisher information (docs/decisions/0001-no-normalisation-across-units.md).
"""

import itertools
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from worker.learning.checkpoint import Prior, Spec
from worker.learning.networks.layers import ConditionalLinear
from worker.learning.networks.network import NO_MASKS, LayerCall, Masks, Network, PrunableLayer, Width


class MlpParams(BaseModel):
    """What a client may choose when it creates a model of this architecture."""

    model_config = ConfigDict(extra="forbid")
    encoder_widths: tuple[Width, ...] = Field(
        (512, 256), min_length=1, max_length=6, description="Units of the encoder's hidden layers."
    )
    decoder_widths: tuple[Width, ...] = Field(
        (256, 512), min_length=1, max_length=6, description="Units of the decoder's hidden layers."
    )
    latent: int = Field(8, ge=1, le=128, description="Dimensions of the latent code z.")
    prior: Prior = Field(
        "mixture",
        description="Prior of z. `mixture`: a mixture of Gaussians fitted to each label, with as many as fit "
        "held-out images best. `fitted`: one Gaussian fitted to each label. `standard`: N(0, I) for all.",
    )


class Mlp(Network):
    """A conditional VAE of two multilayer perceptrons; the first layer of each has the label embedding."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = _stack([spec.pixels, *spec.encoder_widths, 2 * spec.latent], spec.slots)
        self.decoder = _stack([spec.latent, *spec.decoder_widths, spec.pixels], spec.slots)

    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.posterior(self._through("encoder", images, slots, masks, calls))

    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> Tensor:
        return self._through("decoder", latents, slots, masks, calls)

    def prunable_layers(self) -> list[PrunableLayer]:
        sides = (("encoder", self.encoder), ("decoder", self.decoder))
        return [
            PrunableLayer(f"{side}.{index}", f"{side}.{index + 1}")
            for side, layers in sides
            for index in range(len(layers) - 1)
        ]

    def _through(
        self, side: str, inputs: Tensor, slots: Tensor, masks: Masks, calls: list[LayerCall] | None
    ) -> Tensor:
        layers: nn.ModuleList = getattr(self, side)
        for index, layer in enumerate(layers):
            name = f"{side}.{index}"
            preactivation = self.apply_layer(layer, inputs, slots)
            if calls is not None:
                calls.append(LayerCall(name, inputs, preactivation))
            if index == len(layers) - 1:
                return preactivation
            inputs = functional.silu(preactivation)
            if name in masks:
                inputs = inputs * masks[name]
        raise AssertionError("a stack has at least one layer")


def _stack(widths: Sequence[int], slots: int) -> nn.ModuleList:
    pairs = enumerate(itertools.pairwise(widths))
    return nn.ModuleList(ConditionalLinear(a, b, slots if index == 0 else None) for index, (a, b) in pairs)
