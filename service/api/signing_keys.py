"""GET /v1/signing-keys: the public halves of the keys that sign receipts, or did."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.access import needs_no_key
from service.api.context import Context
from service.api.paging import Listing
from service.api.route import Route
from service.receipts.signing import ALGORITHM, PublishedKey, list_public_keys

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
def get_signing_key(context: Context) -> SigningKeyObject:
    """Read the public key that signs receipts now. A lost one is not replaced: the answer is 503 then."""
    return _describe_key(list_public_keys(context.settings.keys)[0])


@router.get("/signing-keys")
@needs_no_key
def list_signing_keys(context: Context) -> Listing[SigningKeyObject]:
    """List the public keys of all receipts, the current one first. The list has one page only.

    `palimpsest keys rotate-signing` replaces the key. Receipts that an earlier one signed still verify.
    """
    data = [_describe_key(one) for one in list_public_keys(context.settings.keys)]
    return Listing(data=data, has_more=False, next=None)


def _describe_key(key: PublishedKey) -> SigningKeyObject:
    return SigningKeyObject(
        keyid=key.keyid,
        algorithm=ALGORITHM,
        public_key=key.public_pem,
        created_at=key.created_at,
        retired_at=key.retired_at,
    )
