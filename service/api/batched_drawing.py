"""Draw in one batch what the requests of one iteration of the event loop want."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from service import metrics
from service.drawing.decoders import Decoder, DecoderUnusable, Wanted
from service.drawing.images import Pixels

MAX_SECONDS = 0.005
"""How long drawing may keep the event loop from all else. What remains waits for the next iteration."""

ENCODING_SECONDS, ENCODING_SECONDS_PER_IMAGE = 12e-6, 3e-6
"""How long the encoding of a PNG takes, and of each image of 28 x 28 pixels in it, about."""


class _Order(NamedTuple):
    """What one request wants."""

    decoder: Decoder
    wanted: Sequence[Wanted]
    encode: Callable[[Pixels], bytes]


class BatchedDrawing:
    """Draws on the event loop, where nothing is handed to a thread and back."""

    def __init__(self) -> None:
        self._waiting: list[tuple[_Order, asyncio.Future[bytes | None]]] = []
        self._is_busy = False
        """Whether several requests came in the last iteration. If not, the next one is drawn as it comes."""
        self._drawn_at_once = 0

    @staticmethod
    def takes(decoder: Decoder, images: int) -> bool:
        """Whether that many images of the decoder can be drawn in one iteration."""
        return _seconds_of(decoder, images) <= MAX_SECONDS

    async def draw(
        self, decoder: Decoder, wanted: Sequence[Wanted], encode: Callable[[Pixels], bytes]
    ) -> bytes | None:
        """Return the encoded images; None if the decoder cannot draw one of them."""
        loop, order = asyncio.get_running_loop(), _Order(decoder, wanted, encode)
        if not self._is_busy:
            if not self._drawn_at_once:
                loop.call_soon(self._count_drawn)
            self._drawn_at_once += 1
            return _draw([order])[0]
        future: asyncio.Future[bytes | None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._draw_waiting, loop)
        self._waiting.append((order, future))
        return await future

    def _count_drawn(self) -> None:
        self._is_busy = self._drawn_at_once > 1
        self._drawn_at_once = 0

    def _draw_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Draw for the requests that came first, as many as one iteration allows."""
        waiting, self._waiting = self._waiting, []
        self._is_busy = len(waiting) > 1
        seconds = 0.0
        together: dict[str, list[tuple[_Order, asyncio.Future[bytes | None]]]] = {}
        for place, (order, future) in enumerate(waiting):
            seconds += _seconds_of(order.decoder, len(order.wanted))
            if together and seconds > MAX_SECONDS:
                self._waiting = waiting[place:]
                loop.call_soon(self._draw_waiting, loop)
                break
            together.setdefault(order.decoder.sha256, []).append((order, future))
        for some in together.values():
            _draw_for([order for order, _ in some], [future for _, future in some])


def _draw_for(orders: Sequence[_Order], futures: Sequence["asyncio.Future[bytes | None]"]) -> None:
    """Draw the images of one decoder, and give each future its own, or the error: nobody waits for ever."""
    try:
        drawn = _draw(orders)
    except Exception as error:
        for future in futures:
            if not future.done():
                future.set_exception(error)
        return
    for future, content in zip(futures, drawn, strict=True):
        if not future.done():
            future.set_result(content)


def _draw(orders: Sequence[_Order]) -> list[bytes | None]:
    """Return the encoded images of each order; all are of one decoder. None if it cannot draw one of them."""
    try:
        with metrics.DRAW_SECONDS.time():
            images = orders[0].decoder.draw([one for order in orders for one in order.wanted])
    except DecoderUnusable:
        return [None] * len(orders)
    encoded: list[bytes | None] = []
    first = 0
    for order in orders:
        last = first + len(order.wanted)
        encoded.append(order.encode(images[first:last]))
        first = last
    return encoded


def _seconds_of(decoder: Decoder, images: int) -> float:
    return ENCODING_SECONDS + images * (decoder.seconds_per_image + ENCODING_SECONDS_PER_IMAGE)
