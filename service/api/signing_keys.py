"""GET /v1/keys/signing: the public half of the key that signs receipts."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.access import needs_no_key
from service.api.context import Context
from service.api.route import Route
from service.receipts.signing import ALGORITHM, load_signing_key

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Route)


class SigningKeyObject(BaseModel):
    """The public half of a signing key.

    Keep a copy of it in another place than the receipts: whoever can change both can forge a receipt.
    """

    object: str = "signing_key"
    keyid: str = Field(description="The id by which a receipt's signature names the key.")
    algorithm: str
    public_key: str = Field(description="The key in PEM format.")


@router.get("/signing")
@needs_no_key
def get_signing_key(context: Context) -> SigningKeyObject:
    """Read the public key of this deployment. It is created when it is first needed, and never changes."""
    key = load_signing_key(context.settings.keys)
    return SigningKeyObject(keyid=key.keyid, algorithm=ALGORITHM, public_key=key.public_pem)
