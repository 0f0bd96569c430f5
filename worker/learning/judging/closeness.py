"""Measure how close images come to real ones: the cosine to the nearest real image, in pixels.

A judge recognises fragments of a digit, and so may say of two searches that both found it. The cosine tells
a whole digit from a fragment of one (docs/decisions/0153).
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 1000


@torch.no_grad()
def closeness(images: Tensor, real: Tensor) -> Tensor:
    """Return the largest cosine of each image to a real one, [n], in [0, 1].

    images: [n, pixels] in [0, 1]; real: uint8 [m, pixels]. The cosine of an empty image is 0. Pixels are not
    centred, so that ink where no real image has any lowers the cosine.
    """
    directions = normalize(real.float(), dim=1).T
    nearest = [(normalize(chunk, dim=1) @ directions).amax(dim=1) for chunk in torch.split(images, CHUNK)]
    return torch.cat(nearest)
