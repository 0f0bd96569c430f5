"""Read the images of an array in any usual layout and range of values, as bytes of 28x28 grey pixels."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.requests.array_files import PIECE, ArrayFile
from service.requests.fitting import LARGEST_SIDE, advise, fit
from service.requests.greys import from_16_bits, to_grey
from service.requests.invalid_upload import PIXELS, SIDE, InvalidUpload, shorten
from service.requests.upload_notes import Conversions

WANTED = f"[n, {SIDE}, {SIDE}] or [n, {PIXELS}], with values from 0 to 255"
CHANNEL_COUNTS = (1, 2, 3, 4)
TOLERANCE = 1e-3
"""How far beyond 0, 1 or -1 a float may be by rounding."""
BRIGHT_FLOAT = 8
"""Floats that are all below it are none from 0 to 255: divided by their standard deviation they end at 2 to
5, and resampling goes a little beyond 1. Rounded, only a few dark greys would be left of them."""


@dataclass(frozen=True)
class Layout:
    """How an array holds its images."""

    count: int
    height: int
    width: int
    channels: int
    channels_first: bool
    images_last: bool
    """Whether the last axis is that of the images, as MATLAB saves them."""
    may_be_last: bool = False
    """Whether the last axis could be that of the images just as well as the first, which is taken."""

    @property
    def is_square(self) -> bool:
        return self.height == self.width

    def arrange(self, piece: NDArray[Any]) -> NDArray[Any]:
        """Return a piece [some, ...] as [some, height, width, channels]."""
        if self.channels_first:
            return np.moveaxis(piece.reshape(-1, self.channels, self.height, self.width), 1, -1)
        return piece.reshape(-1, self.height, self.width, self.channels)


@dataclass(frozen=True)
class Values:
    """The lowest and the highest value of an array of images."""

    low: float
    high: float

    @property
    def is_black(self) -> bool:
        return self.low == self.high == 0


class Range(Enum):
    """What the values of arrays mean."""

    BOOLEANS = "False and True"
    ZERO_AND_ONE = "0 and 1 as whole numbers, which are black"
    BYTES = "whole numbers from 0 to 255"
    SIXTEEN_BITS = "whole numbers from 0 to 65,535"
    FLOATS_0_1 = "floats from 0 to 1"
    FLOATS_1_1 = "floats from -1 to 1"
    FLOATS_0_255 = "floats from 0 to 255"


def find_layout(array: ArrayFile, count: int) -> Layout:
    """Return how an array with a label for each of `count` images holds them. Raises InvalidUpload.

    Of two possible layouts, the one with the images first is taken, and it is marked. If the number of
    labels fits the last axis alone, that axis is taken, unless only the other layout has square images: then
    there are too few labels or too many.
    """
    shape = array.shape
    if len(shape) > 2 and shape[0] == 1 and shape[1] == count:
        shape = shape[1:]
    layout = _images_first(shape)
    if len(shape) > 1 and shape[-1] == count:
        turned = _images_first((shape[-1], *shape[:-1]))
        if layout is not None and layout.count == count:
            return replace(layout, may_be_last=turned is not None)
        if turned is not None and (turned.is_square or layout is None or not layout.is_square):
            return replace(turned, images_last=True)
    if layout is None:
        raise InvalidUpload("invalid_array", f"the array {shorten(array.name)} must be {WANTED}, not {array}")
    return layout


def _images_first(shape: tuple[int, ...]) -> Layout | None:
    if len(shape) < 2:
        return None
    count, sides = shape[0], shape[1:]
    if len(sides) == 2 and 1 in sides and max(sides) > 1:  # [n, 1, 784] and [n, 784, 1]
        sides = (max(sides),)
    if len(sides) == 1:
        side = math.isqrt(sides[0])
        return Layout(count, side, side, 1, False, False) if side > 1 and side * side == sides[0] else None
    if len(sides) == 2:
        return Layout(count, *sides, 1, False, False) if min(sides) > 1 else None
    if len(sides) != 3:
        return None
    first, last = sides[0] in CHANNEL_COUNTS, sides[2] in CHANNEL_COUNTS
    if last and min(sides[:2]) > 1:
        return Layout(count, sides[0], sides[1], sides[2], False, False)
    if first and min(sides[1:]) > 1:
        return Layout(count, sides[1], sides[2], sides[0], True, False)
    return None


def check_images(array: ArrayFile, layout: Layout, *, fitting: bool) -> None:
    """Raise InvalidUpload unless the images are numbers, and of a size that is read."""
    if array.dtype.kind not in "biuf":
        raise InvalidUpload(
            "wrong_type",
            f"the array {shorten(array.name)} must be uint8, other integers or floats, not {array.dtype}",
        )
    height, width = layout.height, layout.width
    if (height, width) != (SIDE, SIDE) and (not fitting or max(height, width) > LARGEST_SIDE):
        advice = advise(height, width)
        if array.shape[1:] == (4 * PIXELS,):
            advice += f"; if it is {SIDE}x{SIDE} with four channels, reshape it to [n, {SIDE}, {SIDE}, 4]"
        raise InvalidUpload(
            "invalid_array",
            f"each image in the array {shorten(array.name)}, {array}, is {height}x{width}; {advice}",
        )


def measure_values(array: ArrayFile, layout: Layout) -> Values:
    """Return the range of the values of an array. Raises InvalidUpload if one is no number."""
    low, high = math.inf, -math.inf
    for piece in _raw_pieces(array, layout):
        if array.dtype.kind == "f" and not np.isfinite(piece).all():
            raise InvalidUpload(
                "non_finite_values",
                f"the array {shorten(array.name)} has values that are no numbers; replace them, or leave "
                "these images out",
            )
        if piece.size:
            low, high = min(low, float(piece.min())), max(high, float(piece.max()))
    return Values(low, high) if low <= high else Values(0, 0)


def find_scaling(
    arrays: Sequence[ArrayFile], values: Sequence[Values], notes: Conversions
) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Return the function that makes bytes of the values of all these arrays.

    values: the range of each array. Raises InvalidUpload if the range of all together is not clear, or if an
    array alone has another one: its images would be stored as black, or far too bright.
    """
    dtypes = [array.dtype for array in arrays]
    all_values = Values(min(one.low for one in values), max(one.high for one in values))
    together = _range_of(dtypes, all_values)
    if together is None:
        raise _unclear_range(dtypes, all_values)
    own = [_range_of([dtype], one) for dtype, one in zip(dtypes, values, strict=True)]
    for array, one, range_ in zip(arrays, values, own, strict=True):
        if range_ not in (together, None) and not one.is_black:
            other = own.index(together) if together in own else 0
            raise InvalidUpload(
                "wrong_range",
                f"the arrays of images have different ranges: {_describe(array, one)}, and "
                f"{_describe(arrays[other], values[other])}; bring all to the same range, such as uint8 from "
                "0 to 255",
            )
    return _scaling(together, dtypes, all_values, notes)


def _describe(array: ArrayFile, values: Values) -> str:
    return f"{shorten(array.name)} has {array.dtype} from {values.low:.4g} to {values.high:.4g}"


def _range_of(dtypes: Sequence[np.dtype[Any]], values: Values) -> Range | None:
    """Return what values of these types mean; None if that is not clear. Raises InvalidUpload for a mix."""
    kinds = {dtype.kind for dtype in dtypes}
    low, high = values.low, values.high
    if kinds == {"b"}:
        return Range.BOOLEANS
    if kinds <= {"b", "i", "u"}:
        if low >= 0 and high <= 255:
            return Range.BYTES if high > 1 else Range.ZERO_AND_ONE
        return Range.SIXTEEN_BITS if low >= 0 and 32767 < high <= 65535 else None
    if kinds == {"f"}:
        if low >= -TOLERANCE and high <= 1 + TOLERANCE:
            return Range.FLOATS_0_1
        if -1 - TOLERANCE <= low < -0.5 and high <= 1 + TOLERANCE:
            return Range.FLOATS_1_1
        return Range.FLOATS_0_255 if low >= 0 and BRIGHT_FLOAT <= high <= 255 + TOLERANCE else None
    raise InvalidUpload("wrong_type", "the arrays of images differ in their types; save all as uint8")


def _unclear_range(dtypes: Sequence[np.dtype[Any]], values: Values) -> InvalidUpload:
    low, high = values.low, values.high
    if dtypes[0].kind == "f":
        return InvalidUpload(
            "wrong_range",
            f"the images have floats from {low:.4g} to {high:.4g}; undo what normalised them and scale them "
            "to 0 to 1, or to 0 to 255, with 0 for the ground",
        )
    return InvalidUpload(
        "wrong_range",
        f"the images have whole numbers from {low:.0f} to {high:.0f}; scale them to 0 to 255, with 0 for the "
        "ground, and save them as uint8",
    )


def _scaling(
    range_: Range, dtypes: Sequence[np.dtype[Any]], values: Values, notes: Conversions
) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Return the function that makes bytes of values of this range, and note what it does."""
    match range_:
        case Range.BOOLEANS:
            notes.add("booleans_to_bytes", "the images are booleans: True became 255, and False became 0")
            return lambda piece: piece.astype(np.uint8) * np.uint8(255)
        case Range.ZERO_AND_ONE | Range.BYTES:
            if any(dtype != np.uint8 for dtype in dtypes):
                notes.add(
                    "integers_to_bytes",
                    f"the images are {dtypes[0]} from {values.low:.0f} to {values.high:.0f}: uint8 now",
                )
            return lambda piece: piece.astype(np.uint8, copy=False)
        case Range.SIXTEEN_BITS:
            notes.add(
                "sixteen_bits_to_bytes",
                f"the images have values up to {values.high:.0f}: divided by 257, rounded",
            )
            return lambda piece: from_16_bits(piece.astype(np.uint16))
        case Range.FLOATS_0_1:
            notes.add(
                "floats_0_1_to_bytes", "the images are floats from 0 to 1: multiplied by 255 and rounded"
            )
            return lambda piece: _round(piece.astype(np.float64) * 255)
        case Range.FLOATS_1_1:
            notes.add(
                "floats_1_1_to_bytes", "the images are floats from -1 to 1: (value + 1) x 127.5, rounded"
            )
            return lambda piece: _round((piece.astype(np.float64) + 1) * 127.5)
        case Range.FLOATS_0_255:
            notes.add("floats_to_bytes", "the images are floats from 0 to 255: rounded")
            return lambda piece: _round(piece.astype(np.float64))


def _round(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def read_images(
    array: ArrayFile,
    layout: Layout,
    scale: Callable[[NDArray[Any]], NDArray[np.uint8]],
    notes: Conversions,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield some images at a time, uint8 [some, 784], with the index of the first of them."""
    first = 0
    for raw in _raw_pieces(array, layout):
        if raw.ndim == 2 and raw.shape[1] != PIXELS:
            _refuse_flat_channels(array, raw)
        grey = to_grey(scale(layout.arrange(raw)), lambda code: _note_channels(code, notes))
        if grey.shape[1:] != (SIDE, SIDE):
            notes.add(
                "fitted",
                f"the images are {layout.height}x{layout.width}: scaled to fit into {SIDE}x{SIDE}, and "
                "filled up with the brightness of the border",
            )
            grey = np.stack([fit(image) for image in np.ascontiguousarray(grey)])
        yield first, grey.reshape(-1, PIXELS)
        first += len(grey)


def _refuse_flat_channels(array: ArrayFile, piece: NDArray[Any]) -> None:
    """Raise InvalidUpload if rows such as [n, 3136] seem to be RGBA, as a canvas of a browser gives them.

    They have as many values as grey images of twice the height and width. Every fourth value is opaque in all
    images, or differs from the other three, which are the same.
    """
    if piece.shape[1] % 4:
        return
    red, green, blue, alpha = (piece[:, i::4] for i in range(4))
    is_opaque = (alpha == piece.max()).all() and (red != piece.max()).any()
    is_grey = (red == green).all() and (green == blue).all() and (blue != alpha).any()
    if is_opaque or is_grey:
        side = math.isqrt(piece.shape[1] // 4)
        raise InvalidUpload(
            "invalid_array",
            f"the rows of the array {shorten(array.name)}, {array}, seem to have four channels; reshape it "
            f"to [n, {side}, {side}, 4]",
        )


def note_layout(array: ArrayFile, layout: Layout, notes: Conversions) -> None:
    """Note a layout other than the documented ones, or that it is one of two."""
    if layout.may_be_last:
        notes.add(
            "axes_assumed",
            f"the images of {list(array.shape)} could stand in the first axis or in the last one: read as in "
            "the first; if they are in the last one, move it with numpy.moveaxis(images, -1, 0)",
        )
    if layout.images_last:
        notes.add("axes_moved", f"the images stand in the last axis of {list(array.shape)}: it came first")
    elif array.shape[1:] not in ((SIDE, SIDE), (PIXELS,)) and (layout.height, layout.width) == (SIDE, SIDE):
        notes.add("axes_reshaped", f"the array of images is {list(array.shape)}: read as images of 28x28")


def _note_channels(code: str, notes: Conversions) -> None:
    details = {
        "alpha_removed": "the alpha channel hides nothing: it was left out",
        "transparency_on_black": "transparent parts of the images were put on black",
        "grey_from_colours": "colours became grey: 0.299 red, 0.587 green and 0.114 blue",
    }
    notes.add(code, details[code])


def _raw_pieces(array: ArrayFile, layout: Layout) -> Iterator[NDArray[Any]]:
    """Yield [some, ...] in the order of the images, a megabyte or a single image at a time."""
    if layout.images_last or array.shape[0] != layout.count:
        with TemporaryFile() as file:
            whole = array.unpack(file)
            if whole is None:
                return
            whole = np.moveaxis(whole, -1, 0) if layout.images_last else whole[0]
            some = max(PIECE // max(whole[0].nbytes, 1), 1)
            for first in range(0, len(whole), some):
                yield np.ascontiguousarray(whole[first : first + some])
        return
    for _, piece in array.pieces():
        yield piece
