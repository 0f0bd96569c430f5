"""The versions that images are requested of, looked up once for many requests.

What was looked up is used again only while it must still be so, as far as any client can know:

- On SQLite, while nothing was committed since.
- On PostgreSQL, for MAX_AGE_SECONDS, and only while this process has read nothing else from the database: an
  answer that it gave in between, such as that a forget has succeeded, may be newer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from service.api.gathered_reads import GatheredReads
from service.registry import drawable_versions
from service.registry.database import Database
from service.registry.drawable_versions import NamedVersion
from service.registry.versions import LabelDecoder

MAX_AGE_SECONDS = 0.5
MAX_BATCH = 200
MAX_KEPT = 1024
"""How many names of versions are remembered, and the decoders of how many versions."""


class DrawableVersion(NamedTuple):
    """A version that may be drawn from."""

    id: str
    number: int
    decoders: Mapping[str, LabelDecoder]
    """{label: its decoder}."""


class _Moment(NamedTuple):
    """When something was read from the database: the newest change, the last session, and the time."""

    change: int | None
    session: int
    seconds: float


class VersionLookup:
    """The versions that were looked up, and the look-up of others. Used on the event loop alone."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[NamedVersion, tuple[_Moment, DrawableVersion]] = OrderedDict()
        self._decoders: OrderedDict[str, Mapping[str, LabelDecoder]] = OrderedDict()
        """{version id: its decoders}, which never change. Used in the thread of the reads alone."""
        self._reads = GatheredReads[NamedVersion, DrawableVersion, _Moment](
            "versions",
            begin=lambda _: self._now(),
            read=lambda _, names: self._read(names),
            keep=self._keep,
            most=MAX_BATCH,
        )

    async def find(self, named: NamedVersion) -> DrawableVersion | None:
        """Return the version if it may be drawn from, else None. Raises DatabaseUnavailable."""
        return self._find_kept(named) or await self._reads.find(named)

    def close(self) -> None:
        """End the thread."""
        self._reads.close()

    def _find_kept(self, named: NamedVersion) -> DrawableVersion | None:
        """Return the version if it was looked up and must still be usable."""
        kept = self._kept.get(named)
        if kept is None:
            return None
        moment, version = kept
        now = self._now()
        if moment.change != now.change:
            return None
        if now.change is None and (
            moment.session != now.session or now.seconds - moment.seconds > MAX_AGE_SECONDS
        ):
            return None
        return version

    def _now(self) -> _Moment:
        seconds = asyncio.get_running_loop().time()
        return _Moment(self._database.change_number(), self._database.last_session, seconds)

    def _keep(self, moment: _Moment, found: Mapping[NamedVersion, DrawableVersion | None]) -> None:
        for named, version in found.items():
            self._kept.pop(named, None)
            if version is not None:
                self._kept[named] = moment, version
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _read(self, names: Sequence[NamedVersion]) -> dict[NamedVersion, DrawableVersion]:
        found = {}
        for named in names:
            if version := drawable_versions.find(self._database, named):
                found[named] = DrawableVersion(*version, self._read_decoders(version.id))
        return found

    def _read_decoders(self, version_id: str) -> Mapping[str, LabelDecoder]:
        decoders = self._decoders.get(version_id)
        if decoders is None:
            decoders = drawable_versions.read_decoders(self._database, version_id)
            self._decoders[version_id] = decoders
            if len(self._decoders) > MAX_KEPT:
                self._decoders.popitem(last=False)
        self._decoders.move_to_end(version_id)
        return decoders
