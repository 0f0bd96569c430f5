"""Losses on the weights that a hypernetwork makes for labels: none of them needs images, real or drawn.

A layer's weights for label c are s_c,i W_i in row i (networks/hyper.py). So squared distances of the weights
of all labels need products of rows of shared matrices, computed once, and no label's weights are written out.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from worker.learning.networks.hyper import Embeddings, Hyper, LayerFactors
from worker.learning.networks.network import Network
from worker.learning.strategy import NotForArchitecture


def as_hypernetwork(network: Network) -> Hyper:
    """Return the network if a hypernetwork makes its weights. Raises NotForArchitecture."""
    if not isinstance(network, Hyper):
        raise NotForArchitecture(
            "the strategy works on the weights that a hypernetwork makes for each label, and no hypernetwork "
            "makes those of this network; use a model of the architecture `hyper`, or another strategy"
        )
    return network


class Retention:
    """How far the weights that a hypernetwork makes for some labels have moved from what it made before."""

    def __init__(self, network: Hyper, before: Hyper, slots: Sequence[int]) -> None:
        rows = torch.tensor(sorted(slots), dtype=torch.int64, device=network.prior_mean.device)
        self._network, self._count = network, len(rows)
        self._embeddings = before.embeddings(rows)
        self._layers = [
            (layer, before.get_parameter(f"{name}.weight")) for name, layer in network.generated_layers()
        ]
        with torch.no_grad():
            self._factors, self._bias = _make_layer_factors(before, self._embeddings)
            self._squares = torch.cat([_squares_of_rows(weight) for _, weight in self._layers])

    def loss(self) -> Tensor:
        """Compute the mean over labels of sum over layers of |W_c - W*_c|^2 + |b_c - b*_c|^2.

        W_c and b_c are made now and W*_c and b*_c were made before; the mean of no labels is 0. With
        W_c - W*_c = s_c (W - W*) + (s_c - s*_c) W* in every row, nothing is lost to rounding where the
        difference is small. Source: von Oswald et al. 2020 (arXiv:1906.00695), equation 2, without the
        look-ahead term.
        """
        if not self._count:
            return torch.zeros((), device=self._network.prior_mean.device)
        factors, bias = _make_layer_factors(self._network, self._embeddings)
        products = [_RowProducts.apply(layer.weight, before) for layer, before in self._layers]
        moved, along = (torch.cat(parts) for parts in zip(*products, strict=True))
        scale, change = factors.scale, factors.scale - self._factors.scale  # [labels, units of all layers]
        rows = scale.square() * moved + 2 * scale * change * along + change.square() * self._squares
        # In this order it is exactly 0 at the start: Adam would take steps of full length along rounding.
        biases = (scale * bias - self._factors.scale * self._bias) + (factors.shift - self._factors.shift)
        return (rows.sum() + biases.square().sum()) / self._count


def _make_layer_factors(network: Hyper, embeddings: Embeddings) -> tuple[LayerFactors, Tensor]:
    """Make the factors and shifts of the units of all layers, [n, units], and list their biases, [units]."""
    factors = network.make_weights(embeddings)
    joined = LayerFactors(*(torch.cat(parts, dim=1) for parts in zip(*factors.values(), strict=True)))
    return joined, torch.cat([layer.bias for _, layer in network.generated_layers()])


def noise_loss(network: Hyper, embeddings: Embeddings, draws: int, generator: torch.Generator) -> Tensor:
    """Compute how far the weights made from n embeddings are from noise, as a mean over them.

    (1 / n) sum over e_c and layers of |W_c - N|^2 + |b_c - N_b|^2, less what does not depend on W_c, with N
    the mean of `draws` matrices of noise, drawn anew by every call: the gradient is that of the mean of their
    squared distances. The noise is normal, with the variance 2 / in of a new network's weights.
    Source: Adhikari et al. 2025 (UnCLe, arXiv:2509.17530).
    """
    factors = network.make_weights(embeddings)
    total, count = torch.zeros((), device=network.prior_mean.device), 0
    for name, layer in network.generated_layers():
        scale, shift = factors[name]
        count = len(scale)
        deviation = (2 / layer.in_features / draws) ** 0.5
        drawn = torch.randn((layer.out_features, layer.in_features + 1), generator=generator)
        noise = deviation * drawn.to(layer.weight.device)
        rows = layer.weight.square().sum(dim=1) * scale.square()
        rows = rows - 2 * scale * (layer.weight * noise[:, :-1]).sum(dim=1)
        biases = scale * layer.bias + shift - noise[:, -1]
        total = total + rows.sum() + biases.square().sum()
    return total / count


class _RowProducts(torch.autograd.Function):
    """|W_i - W*_i|^2 and (W_i - W*_i) W*_i of every row i, with gradients for W, in few passes of memory."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        moved = weight - before
        ctx.save_for_backward(moved, before)
        return _squares_of_rows(moved), torch.linalg.vecdot(moved, before)

    @staticmethod
    def backward(ctx: Any, of_square: Tensor, of_product: Tensor) -> tuple[Tensor, None]:
        moved, before = ctx.saved_tensors
        gradient = moved * (2 * of_square[:, None])
        return gradient.addcmul_(before, of_product[:, None]), None


def _squares_of_rows(matrix: Tensor) -> Tensor:
    # Four times as fast as the sum of the products, at 458 x 784.
    squares: Tensor = matrix.norm(dim=1).square()
    return squares
