"""Errors about projects, keys, webhooks, and requests that are sent twice."""

from service.registry.errors.base import RegistryError


class UnknownKey(RegistryError):
    code = "key_not_found"
    cause = "There is no API key of this id that the caller may see."
    cure = "GET /v1/keys lists the keys."

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no API key {key_id[:80]!r}; GET /v1/keys lists the keys")


class UnknownProject(RegistryError):
    code = "project_not_found"
    cause = "There is no project of this name or id that the caller may use."
    cure = "GET /v1/projects lists the projects; a key of one project can name no other."

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no project {name[:80]!r} that you may use; GET /v1/projects lists them")


class ProjectExists(RegistryError):
    code = "project_exists"
    cause = "There is a project of this name already."
    cure = "Choose another name, or use that project."

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is already a project named {name!r}; choose another name, or use that project"
        )


class ProjectInUse(RegistryError):
    code = "project_in_use"
    cause = "The project still has models, deleted ones included, datasets or usable keys."
    cure = "Delete or revoke what the message names first."

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the project {name!r} cannot be deleted, because {reason}; delete those first")


class UnknownWebhook(RegistryError):
    code = "webhook_not_found"
    cause = "The project has no webhook of this id."
    cure = "GET /v1/webhooks lists the webhooks."

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id[:80]!r}; GET /v1/webhooks lists the webhooks")


class UnknownDelivery(RegistryError):
    code = "delivery_not_found"
    cause = "The webhook has no message of this id, or it was deleted after 30 days."
    cure = "GET /v1/webhooks/{webhook}/deliveries lists its messages."

    def __init__(self, webhook_id: str, message_id: str) -> None:
        super().__init__(
            f"the webhook {webhook_id} has no message {message_id[:80]!r}; "
            f"GET /v1/webhooks/{webhook_id}/deliveries lists its messages"
        )


class TooManyWebhooks(RegistryError):
    code = "too_many_webhooks"
    cause = "The project has as many webhooks as it may."
    cure = "Delete one that is not needed."

    def __init__(self, most: int) -> None:
        super().__init__(f"the project has {most} webhooks, the most allowed; delete one that is not needed")


class TooManyMessages(RegistryError):
    code = "too_many_messages"
    cause = "As many messages that try the webhook wait as may."
    cure = "Try again when some have been accepted or given up."

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} messages that try the webhook have not been accepted yet; try again when some of them "
            "have, or have been given up"
        )


class IdempotencyKeyReused(RegistryError):
    code = "idempotency_key_reused"
    cause = "The Idempotency-Key was used for a request with another method, path or body."
    cure = "Send each request with a key of its own."

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the Idempotency-Key {key[:64]!r} was used for a request with another method, path or body; "
            "send this request with a key of its own"
        )


class IdempotencyInFlight(RegistryError):
    code = "idempotency_in_flight"
    cause = "The request with this Idempotency-Key is being answered."
    cure = "Send it again in a moment to get the same answer."

    def __init__(self, key: str) -> None:
        super().__init__(
            f"a request with the Idempotency-Key {key[:64]!r} is being answered; send this one again in a "
            "moment to get the same answer"
        )


class UnstorableText(RegistryError):
    """A text has a character that the database cannot hold. The rules of its field should say so."""

    code = "invalid_text"
    cause = "A text of the request holds a character that the database cannot hold, such as NUL."
    cure = "Send the text without it."

    def __init__(self) -> None:
        super().__init__(
            "a text of the request holds a NUL, half of a surrogate pair, or a character that the database "
            "lacks; send it without these"
        )
