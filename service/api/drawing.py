"""Draw images for a request in slices: requests take turns, and drawing ends when the client leaves."""

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from fastapi import Request
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from service.api.clients import sharing_client
from service.api.context import ApiContext
from service.api.error_kinds import CONCURRENCY_LIMITED
from service.api.lookup import VERSION_ERRORS, find_model, find_version, unless_purged
from service.api.refusals import NEEDS_USABLE_VERSION, READS_FILES
from service.drawing.images import Pixels
from service.registry import versions
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
LOOK_UP_SECONDS = 0.5
"""After how long the version is looked up again while slices are drawn or wait."""


async def draw(
    request: Request,
    context: ApiContext,
    model: ModelRow,
    version: VersionRow,
    decoders: Mapping[str, LabelDecoder],
    seeds: range,
) -> dict[str, Pixels]:
    """Draw an image of each label for each seed: {label: uint8 [len(seeds), side, side]}.

    Raises Problem 429 if too many requests are drawing, ClientDisconnect if the client has left, what
    `refuse_revoked` raises, and what Generator.draw raises. The images may be sent after another call of
    `refuse_revoked` only: a label may have been forgotten while slices waited for their turns.
    """
    drawn = {}
    looked_up = time.monotonic()
    with context.drawing.admit(sharing_client(request, context)):
        for label, one in decoders.items():
            parts = []
            for first in range(0, len(seeds), SLICE):
                if await request.is_disconnected():
                    raise ClientDisconnect
                if time.monotonic() - looked_up > LOOK_UP_SECONDS:
                    await refuse_revoked(context, model, version, decoders)
                    looked_up = time.monotonic()
                some = seeds[first : first + SLICE]
                parts.append(
                    await context.drawing.run(_draw_slice, context, model, version, label, one, some)
                )
            drawn[label] = np.concatenate(parts)
    return drawn


async def refuse_revoked(
    context: ApiContext, model: ModelRow, version: VersionRow, labels: Iterable[str]
) -> None:
    """Look the version up again. Raises VersionRevoked and the like if nothing may be drawn with it now."""
    await context.database_threads.read(_refuse_revoked, context, model, version, list(labels))


def _refuse_revoked(context: ApiContext, model: ModelRow, version: VersionRow, labels: list[str]) -> None:
    with context.database.reading() as session:
        find_again(session, model, version, labels)


def find_again(
    session: Session, model: ModelRow, version: VersionRow, labels: Sequence[str]
) -> tuple[ModelRow, VersionRow]:
    """Find the version again: a label may have been forgotten since. Raises VersionRevoked and the like."""
    row = find_model(session, model.project_id, model.id)
    found = find_version(session, row, version.number)
    versions.find_decoders(session, row, found, labels)
    return row, found


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
