"""/v1/keys/signing: the public half of the key that signs receipts."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.dependencies import Here
from service.api.route import Route
from service.receipts.signing import ALGORITHM, signing_key

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Route)


class SigningKeyObject(BaseModel):
    """Keep it apart from the receipts: who can change both can forge."""

    object: str = "signing_key"
    keyid: str = Field(description="what a receipt's signature names its key by")
    algorithm: str
    public_key: str = Field(description="PEM")


@router.get("/signing")
def get_signing_key(here: Here) -> SigningKeyObject:
    """The public key of this deployment, made at the first need and the same ever after."""
    key = signing_key(here.settings.keys)
    return SigningKeyObject(keyid=key.keyid, algorithm=ALGORITHM, public_key=key.public_pem)
