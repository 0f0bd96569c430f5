"""Draw in one batch what the requests of one turn of the event loop want."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from service import metrics
from service.drawing.decoders import Decoder, DecoderUnusable, Wanted
from service.drawing.images import Pixels

TURN_SECONDS = 0.005
"""How long drawing may keep the event loop from all else. What remains waits for the next turn."""

ENCODING_SECONDS, ENCODING_SECONDS_PER_IMAGE = 12e-6, 3e-6
"""How long the encoding of a PNG takes, and of each image of 28 x 28 pixels in it, about."""


class _Order(NamedTuple):
    decoder: Decoder
    wanted: Sequence[Wanted]
    encode: Callable[[Pixels], bytes]
    future: "asyncio.Future[bytes | None]"


class Turns:
    """Draws on the event loop, where nothing is handed to a thread and back."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
        self._is_busy = False
        """Whether several requests came in the last turn. If not, the next one is drawn as it comes."""
        self._drawn_at_once = 0

    @staticmethod
    def takes(decoder: Decoder, images: int) -> bool:
        """Whether that many images of the decoder can be drawn in one turn."""
        return _seconds_of(decoder, images) <= TURN_SECONDS

    async def draw(
        self, decoder: Decoder, wanted: Sequence[Wanted], encode: Callable[[Pixels], bytes]
    ) -> bytes | None:
        """Return the encoded images; None if they could not be drawn."""
        loop = asyncio.get_running_loop()
        if not self._is_busy:
            if not self._drawn_at_once:
                loop.call_soon(self._end_turn)
            self._drawn_at_once += 1
            return _draw_one(decoder, wanted, encode)
        order = _Order(decoder, wanted, encode, loop.create_future())
        if not self._orders:
            loop.call_soon(self._draw_waiting, loop)
        self._orders.append(order)
        return await order.future

    def _end_turn(self) -> None:
        self._is_busy = self._drawn_at_once > 1
        self._drawn_at_once = 0

    def _draw_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Draw the orders that came first, as many as one turn allows."""
        orders, self._orders = self._orders, []
        self._is_busy = len(orders) > 1
        seconds = 0.0
        together: dict[str, list[_Order]] = {}
        for place, order in enumerate(orders):
            seconds += _seconds_of(order.decoder, len(order.wanted))
            if together and seconds > TURN_SECONDS:
                self._orders = orders[place:]
                loop.call_soon(self._draw_waiting, loop)
                break
            together.setdefault(order.decoder.sha256, []).append(order)
        for some in together.values():
            _draw(some)


def _draw_one(decoder: Decoder, wanted: Sequence[Wanted], encode: Callable[[Pixels], bytes]) -> bytes | None:
    try:
        with metrics.DRAW_SECONDS.time():
            images = decoder.draw(wanted)
    except DecoderUnusable:
        return None
    return encode(images)


def _draw(orders: Sequence[_Order]) -> None:
    """Draw the images of one decoder, and hand each order its own."""
    try:
        with metrics.DRAW_SECONDS.time():
            images = orders[0].decoder.draw([one for order in orders for one in order.wanted])
    except DecoderUnusable:
        for order in orders:
            _answer(order, None)
        return
    first = 0
    for order in orders:
        last = first + len(order.wanted)
        _answer(order, order.encode(images[first:last]))
        first = last


def _answer(order: _Order, content: bytes | None) -> None:
    if not order.future.done():
        order.future.set_result(content)


def _seconds_of(decoder: Decoder, images: int) -> float:
    return ENCODING_SECONDS + images * (decoder.seconds_per_image + ENCODING_SECONDS_PER_IMAGE)
