"""GET /v1/signing-keys: the public halves of the keys that sign receipts, or did."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service.api.access import needs_no_key
from service.api.context import Context
from service.api.paging import CURSOR_RULE, Listing, LongPage, build_listing, unknown_cursor
from service.api.refusals import refuses
from service.api.route import Route
from service.receipts.signing import ALGORITHM, PublishedKey
from service.receipts.signing_keys import list_keys
from service.registry.errors import SigningKeyUnusable

router = APIRouter(prefix="/v1", tags=["keys"], route_class=Route)


class SigningKeyObject(BaseModel):
    """The public half of a signing key.

    Keep a copy of it in another place than the receipts: whoever can change both can forge a receipt.
    """

    object: str = "signing_key"
    keyid: str = Field(description="The id by which a receipt's signature names the key.")
    algorithm: str
    public_key: str = Field(description="The key in PEM format.")
    created_at: datetime | None = Field(description="Since when it signs receipts, if that is known.")
    retired_at: datetime | None = Field(description="Until when it did. Null for the current key.")


@router.get("/keys/signing")
@needs_no_key
@refuses(SigningKeyUnusable)
def get_signing_key(context: Context) -> SigningKeyObject:
    """Read the public key that signs receipts now. A lost one is not replaced: the answer is 503 then."""
    return _describe_key(list_keys(context.database, context.settings)[0])


@router.get("/signing-keys")
@needs_no_key
@refuses(SigningKeyUnusable, invalid_cursor=CURSOR_RULE)
def list_signing_keys(
    page: Annotated[LongPage, Query()], request: Request, response: Response, context: Context
) -> Listing[SigningKeyObject]:
    """List the public keys of all receipts, the current one first.

    `palimpsest keys rotate-signing` replaces the key. Receipts that an earlier one signed still verify.
    """
    keys = list_keys(context.database, context.settings)
    if page.after is not None:
        names = [one.keyid for one in keys]
        if page.after not in names:
            raise unknown_cursor()
        keys = keys[names.index(page.after) + 1 :]
    data = [_describe_key(one) for one in keys[: page.limit]]
    has_more = len(keys) > page.limit
    return build_listing(
        request, response.headers, data, has_more=has_more, last=data[-1].keyid if data else None
    )


def _describe_key(key: PublishedKey) -> SigningKeyObject:
    return SigningKeyObject(
        keyid=key.keyid,
        algorithm=ALGORITHM,
        public_key=key.public_pem,
        created_at=key.created_at,
        retired_at=key.retired_at,
    )
