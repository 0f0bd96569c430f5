"""Make pixels of several channels grey: colours, and what is transparent."""

from collections.abc import Callable
from typing import Any

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
        channels = put_on_black(channels[..., :-1], channels[..., -1:], note)
    if channels.shape[-1] == 1:
        return channels[..., 0]
    red, green, blue = (channels[..., i].astype(np.uint32) for i in range(3))
    if not (np.array_equal(red, green) and np.array_equal(green, blue)):
        note("grey_from_colours")
    return ((red * RED + green * GREEN + blue * BLUE + 0x8000) >> 16).astype(np.uint8)


def put_on_black(values: NDArray[Any], alpha: Bytes, note: Callable[[str], None]) -> NDArray[Any]:
    """Return values of 8 or 16 bits as they look on black.

    alpha: 0 (transparent) to 255 of each. note: as for `to_grey`.
    """
    if (alpha == 255).all():
        note("alpha_removed")
        return values
    note("transparency_on_black")
    return ((values * alpha.astype(np.uint32) + 127) // 255).astype(values.dtype)


def from_16_bits(values: NDArray[np.uint16]) -> Bytes:
    """Return 0..65,535 as 0..255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
