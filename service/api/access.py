"""Who may call what: the scopes that every endpoint declares, and the caller of a request.

`@requires("read")` at an endpoint names its scope. Its route then asks `Access.admit` for the caller before
anything else of the request is read: the holder of an API key, a browser with a session, or anybody where
no key is needed.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.requests import cookie_parser
from starlette.types import Scope as ASGIScope

from service.api.error_kinds import AUTH_REQUIRED, INSUFFICIENT_SCOPE, INVALID_API_KEY, REPEATED_HEADER
from service.api.origins import SAFE_METHODS, comes_from_own_page, foreign_page
from service.api.problems import Problem
from service.api.threads import DatabaseThreads
from service.registry import keys, projects, sessions
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, UnknownProject
from service.registry.keys import SCOPES, UsableKey
from service.registry.keys import Scope as KeyScope
from service.registry.tables import DEFAULT_PROJECT
from service.settings import Settings

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

REMEMBER_SECONDS = 5.0
"""How long a verified key is not looked up again. One that has expired works for so long at most."""
WATCH_SECONDS = 0.5
"""How often it is asked whether another process revoked a key, or ended a session or a project. What this
process revoked does not work any more at once."""
LOOK_UP_AGAIN_SECONDS = 4.0
"""After that long a key that is in use is looked up again, beside the requests, so that none waits for it."""
MAX_REMEMBERED = 1024
RECORD_EVERY_SECONDS = 60.0
"""The shortest time between two writes of when a key was last used."""

SESSION_COOKIE = "palimpsest_session"
PROJECT_HEADER = "Palimpsest-Project"
CHALLENGE = 'Bearer realm="palimpsest"'


@dataclass(frozen=True)
class Caller:
    """Who sent a request, what they may do, and in which project."""

    key_id: str | None
    """The id of the API key; None where no key is needed."""
    scopes: frozenset[str]
    project: str
    """The id of the project that the request is about."""
    covers_deployment: bool
    """Whether the caller may name any project."""

    def require(self, *scopes: KeyScope) -> None:
        """Raise Problem 403 `insufficient_scope` unless the caller has one of these scopes."""
        if self.scopes.isdisjoint(scopes):
            raise _insufficient_scope(self, scopes)

    def require_deployment(self) -> None:
        """Raise Problem 403 `insufficient_scope` unless the caller may use every project."""
        if not self.covers_deployment:
            detail = "This needs a key of the whole deployment; this key belongs to one project."
            raise Problem(INSUFFICIENT_SCOPE, detail)


NOBODY = Caller(None, frozenset(), DEFAULT_PROJECT, covers_deployment=False)
"""The caller of an endpoint that needs no key: it was not looked up."""
ANYBODY = Caller(None, frozenset(SCOPES), DEFAULT_PROJECT, covers_deployment=True)
"""The caller who sends no key where none is needed."""


def requires(*scopes: KeyScope) -> Callable[[Endpoint], Endpoint]:
    """Declare that an endpoint needs a key with one of these scopes."""

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__dict__["required_scopes"] = scopes
        return endpoint

    return declare


def needs_no_key(endpoint: Endpoint) -> Endpoint:
    """Declare that anybody may call an endpoint, and that it gives away nothing of any project."""
    endpoint.__dict__["required_scopes"] = ()
    return endpoint


def required_scopes(endpoint: Callable[..., object]) -> tuple[KeyScope, ...]:
    """Return the scopes of which an endpoint needs one; none if it needs no key."""
    try:
        scopes: tuple[KeyScope, ...] = endpoint.__dict__["required_scopes"]
    except KeyError:
        name = getattr(endpoint, "__qualname__", endpoint)
        raise TypeError(f"the endpoint {name} declares no scope; write @requires or @needs_no_key") from None
    return scopes


class Access:
    """Finds the callers of requests. Remembers verified keys for a few seconds."""

    def __init__(self, database: Database, threads: DatabaseThreads, settings: Settings) -> None:
        self._database = database
        self._threads = threads
        self._keys_required = settings.keys_required
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._looking_up: dict[bytes, asyncio.Task[None]] = {}
        self._generation = 0
        self._endings: tuple[Any, ...] | None = None
        self._used: dict[str, float] = {}
        self._recorded: dict[str, float] = {}

    async def admit(self, request: Request, scopes: tuple[KeyScope, ...]) -> Caller:
        """Return the caller of the request, if they have one of these scopes.

        Raises Problem 401 for a missing or invalid key, 403 for one without the scope or for a change that a
        foreign page requests with the browser's session; UnknownProject; DatabaseUnavailable.
        """
        sent = _read_credentials(request.scope["headers"])
        caller = self._remember(sent.digest() if sent != NO_CREDENTIALS else None, request.scope)
        if caller is None:
            self._refuse_malformed(sent)
            if sent.digest() not in self._remembered:  # nobody was admitted with these lately: it is a guess
                _refuse_too_many_guesses(request)
            caller = await self._threads.read(self._look_up, sent)
        caller.require(*scopes)
        by_cookie = sent.authorization is None and caller.key_id is not None
        if by_cookie and request.method not in SAFE_METHODS and not comes_from_own_page(request.scope):
            raise foreign_page()
        if caller.key_id is not None:
            self._used[caller.key_id] = time.monotonic()
        return caller

    def find_admitted(
        self, credentials: bytes | None, scope: ASGIScope, scopes: tuple[KeyScope, ...]
    ) -> Caller | None:
        """Return the caller if `admit` would admit them to read something without any look-up, else None.

        credentials: what `read_digest` returns for the headers of the request.
        """
        caller = self._remember(credentials, scope)
        if caller is None or caller.scopes.isdisjoint(scopes):
            return None
        if caller.key_id is not None:
            self._used[caller.key_id] = time.monotonic()
        return caller

    def check_key(self, session: Session, text: str) -> UsableKey:
        """Return the key with this text. Raises Problem 401."""
        key = keys.find_usable(session, text)
        if key is None:
            raise _invalid_key()
        return key

    def forget(self) -> None:
        """Look up every key and session again: one of them, or a project, has just been ended."""
        self._generation += 1  # so that a look-up that has already read the row is not remembered
        for digest, known in list(self._remembered.items()):
            self._remembered[digest] = known._replace(looked_up_at=-math.inf)

    def watch(self) -> None:
        """Look up everything again if a key, a session or a project has ended. Raises DatabaseUnavailable.

        It is called every WATCH_SECONDS.
        """
        if self._remembered:
            endings = keys.read_endings(self._database)
            if endings != self._endings:
                self.forget()
                self._endings = endings

    def record_uses(self) -> None:
        """Write when keys were last used, each at most once a minute. Raises DatabaseUnavailable."""
        moment = time.monotonic()
        due = {
            key_id: used
            for key_id, used in list(self._used.items())
            if moment - self._recorded.get(key_id, -RECORD_EVERY_SECONDS) >= RECORD_EVERY_SECONDS
            and used > self._recorded.get(key_id, 0)
        }
        if due:
            with self._database.transaction() as session:
                keys.record_uses(session, {key_id: moment - used for key_id, used in due.items()})
            self._recorded.update(dict.fromkeys(due, moment))

    def _remember(self, digest: bytes | None, scope: ASGIScope) -> Caller | None:
        """Return the caller if these credentials were verified a moment ago, or if none are needed.

        digest: of the credentials that the request has; None if it has none.
        """
        if digest is None:
            return None if self._keys_required else ANYBODY
        known = self._remembered.get(digest)
        age = time.monotonic() - known.looked_up_at if known else REMEMBER_SECONDS
        if known is None or age >= REMEMBER_SECONDS:
            return None
        if age >= LOOK_UP_AGAIN_SECONDS and digest not in self._looking_up:
            sent = _read_credentials(scope["headers"])
            self._looking_up[digest] = asyncio.create_task(self._look_up_again(sent, digest))
        return known.caller

    async def _look_up_again(self, sent: "_Credentials", digest: bytes) -> None:
        try:
            with suppress(DatabaseUnavailable, Problem, UnknownProject):  # the next request is told so
                await self._threads.read(self._look_up, sent)
        finally:
            del self._looking_up[digest]

    def _refuse_malformed(self, sent: "_Credentials") -> None:
        """Raise Problem 401 for what cannot be a key. The database is not asked."""
        if sent.authorization is not None and not keys.is_well_formed(_bearer(sent.authorization)):
            raise _invalid_key()
        if sent.authorization is None and sent.session is None and self._keys_required:
            raise _no_key()

    def _look_up(self, sent: "_Credentials") -> Caller:
        generation, began = self._generation, time.monotonic()
        try:
            with self._database.reading() as session:
                caller = self._find_caller(session, sent)
                if sent.project is not None:
                    caller = _in_project(session, caller, sent.project)
        except (Problem, UnknownProject):  # they are not valid any more
            self._remembered.pop(sent.digest(), None)
            raise
        if generation == self._generation:
            self._remembered[sent.digest()] = _Remembered(began, caller)
        while len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return caller

    def _find_caller(self, session: Session, sent: "_Credentials") -> Caller:
        if sent.authorization is not None:
            return _caller(self.check_key(session, _bearer(sent.authorization)), None)
        opened = sessions.find(session, sent.session) if sent.session is not None else None
        if opened is not None:
            return _caller(opened.key, opened.project)
        if self._keys_required:
            raise _no_key()
        return ANYBODY  # a cookie that has ended counts as none: the browser sends it by itself


class _Credentials(NamedTuple):
    authorization: str | None
    session: str | None
    project: str | None

    def digest(self) -> bytes:
        return sha256(f"{self.authorization!r} {self.session!r} {self.project!r}".encode()).digest()


class _Remembered(NamedTuple):
    looked_up_at: float
    caller: Caller


NO_CREDENTIALS = _Credentials(None, None, None)


def read_session_token(request: Request) -> str | None:
    """Return the token of the browser's session, if the request has one."""
    return _read_credentials(request.scope["headers"]).session


def read_digest(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return a digest of the credentials in the headers; None if there are none. Raises Problem."""
    sent = _read_credentials(headers)
    return None if sent == NO_CREDENTIALS else sent.digest()


def _read_credentials(headers: Iterable[tuple[bytes, bytes]]) -> _Credentials:
    authorization = session = project = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                raise _invalid_key()
            authorization = value.decode("latin-1")
        elif name == b"cookie" and SESSION_COOKIE.encode() in value:
            session = cookie_parser(value.decode("latin-1")).get(SESSION_COOKIE)
        elif name == b"palimpsest-project":
            if project is not None:
                raise Problem(REPEATED_HEADER, f"Send the header {PROJECT_HEADER} once.")
            project = value.decode("latin-1")
    return _Credentials(authorization, session, project)


def _bearer(authorization: str) -> str:
    """Return the key that the header holds. Raises Problem 401 for another scheme."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise _invalid_key()
    return text.strip()


def _refuse_too_many_guesses(request: Request) -> None:
    """Raise Problem 429 if the address has sent so many requests without a valid key that it must wait.

    Clients behind the same address go on, if they were admitted lately.
    """
    address = request.client.host if request.client else ""
    if refusal := request.app.state.context.rates.look(address):
        raise refusal


def _caller(key: UsableKey, opened_for: str | None) -> Caller:
    project = key.project or opened_for or DEFAULT_PROJECT
    return Caller(key.id, key.scopes, project, covers_deployment=key.project is None)


def _in_project(session: Session, caller: Caller, name: str) -> Caller:
    """Return the caller in the project of that name. Raises UnknownProject, also if it is not theirs."""
    project = projects.find(session, name)
    if not caller.covers_deployment and project.id != caller.project:
        raise UnknownProject(name)
    return Caller(caller.key_id, caller.scopes, project.id, caller.covers_deployment)


def _no_key() -> Problem:
    detail = "This needs an API key; send it as `Authorization: Bearer KEY`."
    return Problem(AUTH_REQUIRED, detail, headers={"WWW-Authenticate": CHALLENGE})


def _invalid_key() -> Problem:
    detail = (
        "This is not a valid API key: it is unknown, mistyped, revoked or expired. Ask for another one, and "
        "send it as `Authorization: Bearer KEY`."
    )
    challenge = f'{CHALLENGE}, error="invalid_token"'
    return Problem(INVALID_API_KEY, detail, headers={"WWW-Authenticate": challenge})


def _insufficient_scope(caller: Caller, scopes: tuple[KeyScope, ...]) -> Problem:
    held = ", ".join(scope for scope in SCOPES if scope in caller.scopes) or "none"
    needed = " or ".join(scopes)
    detail = f"This needs a key with the scope {needed}; the scopes of this key are: {held}."
    challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(scopes)}"'
    return Problem(INSUFFICIENT_SCOPE, detail, headers={"WWW-Authenticate": challenge})
