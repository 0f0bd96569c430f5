"""`client.aliases`: names of versions, such as `production`, and their history."""

import httpx2

from palimpsest.calls import call, pages, steps
from palimpsest.errors import NotFound
from palimpsest.requests import Page, Request, delete, get, nothing, page, post, segment, value, without_none
from palimpsest.resources.models import PAGE, path_of
from palimpsest.transports import Steps, send
from palimpsest.values import Alias, AliasChange, Model


class Aliases:
    """Names of versions, such as `production`. An alias stands wherever the number of a version may."""

    @pages
    def list(self, model: str | Model) -> Request[Page[Alias]]:
        """Iterate over the aliases of a model, in the order of their names."""
        return get(f"{path_of(model)}/aliases", page(Alias), limit=PAGE)

    @call
    def get(self, model: str | Model, alias: str) -> Request[Alias]:
        """Get which version an alias names."""
        return get(_path(model, alias), _alias)

    @steps
    def set(
        self,
        model: str | Model,
        alias: str,
        version: int | str,
        *,
        reason: str | None = None,
        seen: Alias | None = None,
    ) -> Steps[Alias]:
        """Set an alias to a version that may be drawn, and make the alias if there is none.

        seen: the alias as you saw it; if it was changed since, PreconditionFailed is raised. Without it the
        alias is changed as it is now. A version that holds a forgotten label is refused (`version_revoked`).
        """
        if seen is None:
            try:
                seen = yield from send(get(_path(model, alias), _alias))
            except NotFound as error:
                if error.code != "alias_not_found":
                    raise
        condition = {"If-Match": seen.etag} if seen is not None else {"If-None-Match": "*"}
        body = without_none(version=version, reason=reason)
        request = Request("PUT", _path(model, alias), _alias, body=body, headers=condition)
        return (yield from send(request))

    @call
    def rollback(
        self,
        model: str | Model,
        alias: str,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Alias]:
        """Set an alias to the version that it named before, and that may still be drawn."""
        return post(f"{_path(model, alias)}/rollback", without_none(reason=reason), _alias, idempotency_key)

    @call
    def delete(self, model: str | Model, alias: str, *, reason: str | None = None) -> Request[None]:
        """Delete an alias. Its version and its history stay."""
        return delete(_path(model, alias), nothing, reason=reason)

    @pages
    def history(self, model: str | Model, alias: str) -> Request[Page[AliasChange]]:
        """Iterate over the changes of an alias, newest first, also after it was deleted."""
        return get(f"{_path(model, alias)}/history", page(AliasChange), limit=PAGE)


def _path(model: str | Model, alias: str) -> str:
    return f"{path_of(model)}/aliases/{segment(alias)}"


def _alias(response: httpx2.Response) -> Alias:
    return value(Alias)(response).with_etag(response.headers.get("ETag", "*"))
