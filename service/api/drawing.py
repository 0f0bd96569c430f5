"""Draw images for a request in slices: requests take turns, and drawing ends when the client leaves."""

from collections.abc import Mapping, Sequence

import numpy as np
from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.clients import sharing_client
from service.api.context import ApiContext
from service.api.error_kinds import CONCURRENCY_LIMITED
from service.api.lookup import VERSION_ERRORS, unless_purged
from service.api.refusals import NEEDS_USABLE_VERSION, READS_FILES
from service.drawing.images import Pixels
from service.registry.errors import LabelForgotten, LabelNotLearned
from service.registry.tables import ModelRow, VersionRow
from service.registry.versions import LabelDecoder

DRAWING_ERRORS = (
    *VERSION_ERRORS,
    LabelNotLearned,
    LabelForgotten,
    *NEEDS_USABLE_VERSION,
    *READS_FILES,
    CONCURRENCY_LIMITED,
)
"""What an endpoint declares that draws labels with a version."""
SLICE = 32
"""How many images are drawn before other requests have their turn: some 5 ms."""


async def draw(
    request: Request,
    context: ApiContext,
    model: ModelRow,
    version: VersionRow,
    decoders: Mapping[str, LabelDecoder],
    seeds: range,
) -> dict[str, Pixels]:
    """Draw an image of each label for each seed: {label: uint8 [len(seeds), side, side]}.

    Raises Problem 429 if too many requests are drawing, ClientDisconnect if the client has left,
    VersionPurged or VersionRevoked if the version's files were deleted, and what Generator.draw raises.
    """
    drawn = {}
    with context.drawing.admit(sharing_client(request, context)):
        for label, one in decoders.items():
            parts = []
            for first in range(0, len(seeds), SLICE):
                if await request.is_disconnected():
                    raise ClientDisconnect
                some = seeds[first : first + SLICE]
                parts.append(
                    await context.drawing.run(_draw_slice, context, model, version, label, one, some)
                )
            drawn[label] = np.concatenate(parts)
    return drawn


def _draw_slice(
    context: ApiContext,
    model: ModelRow,
    version: VersionRow,
    label: str,
    one: LabelDecoder,
    seeds: Sequence[int],
) -> Pixels:
    with unless_purged(context, model, version):
        return context.generator.draw(one.sha256, label=label, slot=one.slot, seeds=seeds)
