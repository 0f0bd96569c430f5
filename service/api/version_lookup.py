"""The versions that images are requested of, looked up once for many requests.

What was looked up is used again only while it must still be so, as far as any client can know:

- On SQLite, while nothing was committed since.
- On PostgreSQL, for MAX_AGE_SECONDS, and only while this process has read nothing else from the database: an
  answer that it gave in between, such as that a forget has succeeded, may be newer.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from service.registry import drawable_versions
from service.registry.database import Database
from service.registry.drawable_versions import NamedVersion
from service.registry.errors import DatabaseUnavailable
from service.registry.versions import LabelDecoder

log = logging.getLogger(__name__)

MAX_AGE_SECONDS = 0.5
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


_Found = Mapping[NamedVersion, DrawableVersion] | DatabaseUnavailable


class VersionLookup:
    """Looks versions up in a thread of its own. Used on the event loop alone.

    While some are read, the requests that arrive wait together for the next reading.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="versions")
        self._kept: OrderedDict[NamedVersion, tuple[_Moment, DrawableVersion]] = OrderedDict()
        self._decoders: OrderedDict[str, Mapping[str, LabelDecoder]] = OrderedDict()
        """{version id: its decoders}, which never change. Used in the thread alone."""
        self._waiting: dict[NamedVersion, asyncio.Future[DrawableVersion | None]] = {}
        self._is_reading = False

    def find_kept(self, named: NamedVersion) -> DrawableVersion | None:
        """Return the version if it was looked up and must still be usable. Never waits."""
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

    async def find(self, named: NamedVersion) -> DrawableVersion | None:
        """Return the version if it may be drawn from, else None. Raises DatabaseUnavailable."""
        loop = asyncio.get_running_loop()
        future = self._waiting.get(named)
        if future is None:
            future = self._waiting[named] = loop.create_future()
        if not self._is_reading:
            self._start(loop)
        return await asyncio.shield(future)  # others may wait for it if this client leaves

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _now(self) -> _Moment:
        seconds = asyncio.get_running_loop().time()
        return _Moment(self._database.change_number(), self._database.last_session, seconds)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_reading = True
        batch, self._waiting = self._waiting, {}
        moment = self._now()
        reading = loop.run_in_executor(self._thread, self._read, list(batch))
        reading.add_done_callback(lambda done: self._finish(loop, batch, moment, done))

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Mapping[NamedVersion, "asyncio.Future[DrawableVersion | None]"],
        moment: _Moment,
        done: "asyncio.Future[_Found]",
    ) -> None:
        found = {} if done.cancelled() else done.result()
        if isinstance(found, DatabaseUnavailable):
            # Those who came meanwhile would wait for as long again.
            for future in (*batch.values(), *self._waiting.values()):
                future.set_exception(found)
            self._waiting = {}
        else:
            for named, future in batch.items():
                self._keep(named, moment, found.get(named))
                future.set_result(found.get(named))
        self._is_reading = False
        if self._waiting:
            self._start(loop)

    def _keep(self, named: NamedVersion, moment: _Moment, version: DrawableVersion | None) -> None:
        self._kept.pop(named, None)
        if version is not None:
            self._kept[named] = moment, version
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def _read(self, batch: Collection[NamedVersion]) -> _Found:
        try:
            found = {}
            for named in batch:
                if version := drawable_versions.find(self._database, named):
                    found[named] = DrawableVersion(*version, self._read_decoders(version.id))
            return found
        except DatabaseUnavailable as error:
            return error
        except Exception:
            log.exception("versions could not be looked up; the requests are answered without that")
            return {}

    def _read_decoders(self, version_id: str) -> Mapping[str, LabelDecoder]:
        decoders = self._decoders.get(version_id)
        if decoders is None:
            decoders = self._decoders[version_id] = drawable_versions.read_decoders(
                self._database, version_id
            )
            if len(self._decoders) > MAX_KEPT:
                self._decoders.popitem(last=False)
        self._decoders.move_to_end(version_id)
        return decoders
