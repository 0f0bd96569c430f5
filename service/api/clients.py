"""Who is counted as one client where several share a limit of work in hand (slots.py)."""

from fastapi import Request

from service.api.context import ApiContext
from service.api.rates import client_of, is_loopback
from service.api.route import client_address


def sharing_client(request: Request, context: ApiContext) -> str | None:
    """Return the API key of the request, or the address it came from without one.

    None for this machine's own user without a key, who shares the service with nobody.
    """
    address = client_address(request)
    return context.caller.key_id or (None if is_loopback(address) else client_of(address))
