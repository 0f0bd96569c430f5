"""Make pixels of several channels grey: colours, and what is transparent."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

RED, GREEN, BLUE = 19595, 38470, 7471
"""The weights of ITU-R BT.601 times 65,536, rounded as Pillow does it: equal channels keep their value."""


def to_grey(channels: Bytes, note: Callable[[str], None]) -> Bytes:
    """Return [..., 1 to 4] as [...]. The channels are grey, grey and alpha, RGB, or RGB and alpha.

    note: called with the code of each conversion of PICTURE_CONVERSIONS that changed something.
    """
    count = channels.shape[-1]
    if count in (2, 4):
        alpha = channels[..., -1].astype(np.uint16)
        if (alpha == 255).all():
            note("alpha_removed")
            channels = channels[..., :-1]
        else:
            note("transparency_on_black")
            product = channels[..., :-1] * alpha[..., None]
            channels = ((product + 127) // 255).astype(np.uint8)
    if channels.shape[-1] == 1:
        return channels[..., 0]
    red, green, blue = (channels[..., i].astype(np.uint32) for i in range(3))
    if not (np.array_equal(red, green) and np.array_equal(green, blue)):
        note("grey_from_colours")
    return ((red * RED + green * GREEN + blue * BLUE + 0x8000) >> 16).astype(np.uint8)


def from_16_bits(values: NDArray[np.uint16]) -> Bytes:
    """Return 0..65,535 as 0..255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
