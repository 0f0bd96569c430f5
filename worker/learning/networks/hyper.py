"""A conditional VAE whose weights a hypernetwork makes for each label, from an embedding of the label.

The main network is a multilayer perceptron, as `mlp`. There is one hypernetwork for the encoder and one for
the decoder. From the embedding e_c of label c it makes the weights of every layer:

    h_c = silu(B e_c + a),   s_c = 1 + C h_c + d,   W_c = diag(s_c) W,   b_c = s_c * b + D h_c + f.

B and a are shared by all layers; each layer has its own W, b, C, d, D and f. If the last layer of a
hypernetwork is dense, it has a row for each weight that it makes, which is too many; so others make them in
chunks (von Oswald et al. 2020, arXiv:1906.00695, section 2.3). This one makes a factor for each row of W, as
Ha et al. 2017 (arXiv:1609.09106, section 3.2) do. Then W_c x = s_c * (W x): a batch of several labels needs
s_c and b_c only, made once for each of its labels, and one matrix product that all labels share.
See docs/decisions/0162.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from worker.learning.checkpoint import Prior, Spec
from worker.learning.networks.network import NO_MASKS, LayerCall, Masks, Network, PrunableLayer, Width

EMBEDDING = 32
"""Numbers of the embedding of a label, for the encoder and for the decoder each."""
HIDDEN = 32
"""Hidden units of each hypernetwork."""
SIDES = ("encoder", "decoder")
ROW_PARAMETERS = ("weight", "bias", "scale.weight", "scale.bias", "shift.weight", "shift.bias")
"""The parameters of a GeneratedLinear, which have a row for each unit: W, b, C, d, D and f."""
Embeddings = Mapping[str, Tensor]
"""Side -> embeddings of labels, [n, EMBEDDING]."""


class HyperParams(BaseModel):
    """What a client may choose when it creates a model of this architecture."""

    model_config = ConfigDict(extra="forbid")
    encoder_widths: tuple[Width, ...] = Field(
        (458, 228), min_length=1, max_length=6, description="Units of the encoder's hidden layers."
    )
    decoder_widths: tuple[Width, ...] = Field(
        (228, 458), min_length=1, max_length=6, description="Units of the decoder's hidden layers."
    )
    latent: int = Field(8, ge=1, le=128, description="Dimensions of the latent code z.")
    prior: Prior = Field(
        "mixture",
        description="Prior of z. `mixture`: a mixture of Gaussians fitted to each label, with as many as fit "
        "held-out images best. `fitted`: one Gaussian fitted to each label. `standard`: N(0, I) for all.",
    )


class LayerFactors(NamedTuple):
    """What a hypernetwork makes for a layer: for each label a factor and a shift of each unit."""

    scale: Tensor  # s_c, [labels, out]
    shift: Tensor  # D h_c + f, [labels, out]

    def at(self, rows: Tensor) -> "LayerFactors":
        """Return what it makes for the labels of these rows, [n, out] each."""
        return LayerFactors(self.scale[rows], self.shift[rows])


class GeneratedLinear(nn.Linear):
    """A linear layer whose weights a hypernetwork makes."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.scale = nn.Linear(HIDDEN, out_features)  # C and d
        self.shift = nn.Linear(HIDDEN, out_features)  # D and f


class LabelEmbedding(nn.Module):
    """The embeddings of the labels, [slots, EMBEDDING]."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.label = nn.Parameter(torch.zeros(slots, EMBEDDING))


class Hyper(Network):
    """A conditional VAE of two multilayer perceptrons, each with weights made by a hypernetwork.

    With a zero embedding, as a new network has, W_c = W and b_c = b.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = _side([spec.pixels, *spec.encoder_widths, 2 * spec.latent], spec.slots)
        self.decoder = _side([spec.latent, *spec.decoder_widths, spec.pixels], spec.slots)

    def encode(
        self, images: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.posterior(self._through("encoder", images, slots, masks, calls))

    def decode(
        self, latents: Tensor, slots: Tensor, masks: Masks = NO_MASKS, calls: list[LayerCall] | None = None
    ) -> Tensor:
        return self._through("decoder", latents, slots, masks, calls)

    def prunable_layers(self) -> list[PrunableLayer]:
        return [
            PrunableLayer(f"{side}.{index}", f"{side}.{index + 1}", row_parameters=ROW_PARAMETERS)
            for side in SIDES
            for index in range(self._depth(side) - 1)
        ]

    def generated_layers(self) -> Iterator[tuple[str, GeneratedLinear]]:
        """Yield every layer whose weights are made, with its name."""
        for side in SIDES:
            for index in range(self._depth(side)):
                yield f"{side}.{index}", self.get_submodule(f"{side}.{index}")  # type: ignore[misc]

    def embedding_tables(self) -> dict[str, Tensor]:
        """Return the embeddings of all slots, side -> [slots, EMBEDDING]."""
        return {side: self.get_submodule(f"{side}.embedding").label for side in SIDES}  # type: ignore[misc]

    def embeddings(self, slots: Tensor) -> Embeddings:
        """Return the embeddings of these slots, int64 [n]."""
        return {side: table[slots] for side, table in self.embedding_tables().items()}

    def make_weights(self, embeddings: Embeddings) -> dict[str, LayerFactors]:
        """Make the weights of n labels from their embeddings: layer -> factors and shifts, [n, out].

        Whatever the network's precision, they are computed as precisely as the weights are stored: losses
        compare them with what was made before, and take the rounding of a lower precision for a change.
        """
        hidden = {
            side: functional.silu(self.get_submodule(f"{side}.hidden")(embedding))
            for side, embedding in embeddings.items()
        }
        return {
            name: LayerFactors(1 + layer.scale(hidden[side]), layer.shift(hidden[side]))
            for name, layer in self.generated_layers()
            if (side := name.partition(".")[0]) in hidden
        }

    def _through(
        self, side: str, inputs: Tensor, slots: Tensor, masks: Masks, calls: list[LayerCall] | None
    ) -> Tensor:
        """Apply the layers of a side. To record the calls, weights are made for each example instead."""
        labels, rows = (slots, None) if calls is not None else slots.unique(return_inverse=True)
        embedding, depth = self.embedding_tables()[side][labels], self._depth(side)
        if calls is not None:
            calls.append(LayerCall(f"{side}.embedding", embedding, embedding))
        hidden = self._hidden(side, embedding, calls)
        for index in range(depth):
            name = f"{side}.{index}"
            factors = self._layer_factors(name, hidden, calls)
            scale, shift = factors if rows is None else factors.at(rows)
            preactivation = scale * self._linear(name, inputs, calls) + shift
            if index == depth - 1:
                return preactivation
            inputs = functional.silu(preactivation)
            if name in masks:
                inputs = inputs * masks[name]
        raise AssertionError("a side has at least one layer")

    def _hidden(self, side: str, embedding: Tensor, calls: list[LayerCall] | None) -> Tensor:
        """Compute the hidden units h_c of a side's hypernetwork, [n, HIDDEN]."""
        return functional.silu(self._linear(f"{side}.hidden", embedding, calls))

    def _layer_factors(self, name: str, hidden: Tensor, calls: list[LayerCall] | None) -> LayerFactors:
        scale, shift = (self._linear(f"{name}.{part}", hidden, calls) for part in LayerFactors._fields)
        return LayerFactors(1 + scale, shift)

    def _linear(self, name: str, inputs: Tensor, calls: list[LayerCall] | None) -> Tensor:
        output = self.apply_layer(self.get_submodule(name), inputs)
        if calls is not None:
            calls.append(LayerCall(name, inputs, output))
        return output

    def _depth(self, side: str) -> int:
        return len(getattr(self, side)) - 2  # without the embedding and the hypernetwork's hidden layer


def _side(widths: Sequence[int], slots: int) -> nn.ModuleDict:
    layers = {str(index): GeneratedLinear(a, b) for index, (a, b) in enumerate(itertools.pairwise(widths))}
    return nn.ModuleDict(
        {"embedding": LabelEmbedding(slots), "hidden": nn.Linear(EMBEDDING, HIDDEN), **layers}
    )
