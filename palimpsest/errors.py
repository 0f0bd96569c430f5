"""What the client raises. `except PalimpsestError` catches all of it."""

from collections.abc import Sequence

from palimpsest.values import Json


class PalimpsestError(Exception):
    """Any error of this client."""


class ServerUnreachable(PalimpsestError):
    """No answer came: the address is wrong, the server is down, or it took longer than the timeout."""


class RequestRefused(PalimpsestError):
    """The server answered with an error (RFC 9457 problem document).

    status: the HTTP status.
    code: stable, for programs: `model_not_found`. It is `not_a_problem` where the answer is no problem
        document: then a proxy, or another program, answered.
    detail: for people, with what to do next.
    errors: one entry for each wrong field of the request.
    request_id: finds the request in the server's log.
    retry_after: seconds to wait before trying again, where the server says so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Json] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code} ({status}): {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after
