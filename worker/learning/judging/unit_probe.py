"""A probe of decoder units: can a few units of the last hidden layer alone show a label's real images?"""

import torch
from torch import Tensor

from worker.learning.networks.hyper import Hyper
from worker.learning.networks.network import Network

SPARSITY = 10.0
"""With it, an image of MNIST is coded by about 20 of some 450 units."""
STEPS = 300
DARKEST = 0.05
"""Pixels are compared as logits of a value between DARKEST and 1 - DARKEST."""


@torch.no_grad()
def reconstruct_from_units(
    network: Network, images: Tensor, sparsity: float = SPARSITY, steps: int = STEPS
) -> Tensor | None:
    """Reconstruct images by few units of the decoder's last hidden layer; [n, pixels] in [0, 1].

    The units' outgoing weights W [pixels, units] are pictures that the decoder adds up, and their activations
    h are hardly ever negative. This is the non-negative sparse code of the images' logits y,

        min over h >= 0 of |W h + b - y|^2 / 2 + sparsity * sum over units of |W_unit| h_unit,

    found with FISTA (Beck & Teboulle 2009). A decoder whose units still draw a label's strokes comes nearer
    to its images than one that never drew them. Linear combinations of any sign tell less: they reconstruct
    every label about equally well. None if the last layer is not dense (architecture `conv`), or draws other
    pictures for each label (architecture `hyper`).

    images: uint8 [n, pixels]. sparsity: 0 is non-negative least squares.
    """
    last = _last_layer(network)
    if last is None:
        return None
    weight, bias = last
    targets = (images.float() / 255).clamp(DARKEST, 1 - DARKEST).logit() - bias
    step_size = 1 / torch.linalg.matrix_norm(weight, 2).square()
    price = sparsity * weight.norm(dim=0)
    shares = extrapolated = torch.zeros(len(images), weight.shape[1])
    momentum = 1.0
    for _ in range(steps):
        gradient = (extrapolated @ weight.T - targets) @ weight + price
        before, shares = shares, (extrapolated - step_size * gradient).clamp(min=0)
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        extrapolated, momentum = shares + (momentum - 1) / faster * (shares - before), faster
    reconstructed: Tensor = (bias + shares @ weight.T).sigmoid()
    return reconstructed


def _last_layer(network: Network) -> tuple[Tensor, Tensor] | None:
    """The weight [pixels, units] and the bias of the decoder's last layer; None if there is no such pair."""
    if isinstance(network, Hyper):
        return None
    parameters = dict(network.named_parameters())
    name = [name for name in parameters if name.startswith("decoder.") and name.endswith(".weight")][-1]
    weight = parameters[name].detach()
    if weight.dim() != 2 or len(weight) != network.pixels:
        return None
    return weight, parameters[name.removesuffix("weight") + "bias"].detach()
