"""Every kind of error that a request may be answered with: its code, status, cause and cure.

Those of the registry come from their classes; this module adds their statuses. What a request breaks in its
fields (422) is in service/requests/rules.py. docs/errors.md lists them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from service.registry.errors import ImagesDeleted, RegistryError
from service.requests.rules import RULES


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error. `code` is part of the public API and never changes."""

    status: int
    code: str
    cause: str
    cure: str

    @property
    def type(self) -> str:
        """The `type` of its problem documents: where the service says more about it."""
        return f"{ERRORS_PATH}#{self.code}"

    @property
    def title(self) -> str:
        return self.code.replace("_", " ").capitalize()


ERRORS_PATH = "/docs/errors"
"""The page that lists every code. It is a path, so that it works under every name that the service has."""

Refusal: TypeAlias = ErrorKind | type[RegistryError]
"""What an endpoint declares that it may refuse a request with."""


def kind_of(refusal: Refusal) -> ErrorKind:
    """Return the kind of a registry error, or the kind itself.

    Raises KeyError for an error that no request can lead to.
    """
    if isinstance(refusal, ErrorKind):
        return refusal
    return ErrorKind(STATUS[refusal.code], refusal.code, refusal.cause, refusal.cure)


def as_conflict(refusal: Refusal) -> ErrorKind:
    """Return the kind with the status 409: for an error about something that the URL does not name."""
    return replace(kind_of(refusal), status=409)


def rule_kind(code: str, status: int = 422) -> ErrorKind:
    """Return the kind of the errors that break one rule of the fields."""
    return ErrorKind(status, code, RULES[code].cause, RULES[code].cure)


def all_kinds() -> list[ErrorKind]:
    """Return every kind that a request may be answered with, by status and code."""
    own = [value for value in globals().values() if isinstance(value, ErrorKind)]
    registry = [kind_of(one) for one in registry_errors() if one.code in STATUS]
    conflicts = [replace(one, status=409) for one in registry if one.status == 410]
    rules = [rule_kind(code) for code in RULES]
    return sorted({*own, *registry, *conflicts, *rules}, key=lambda one: (one.status, one.code, one.cause))


def registry_errors() -> Iterator[type[RegistryError]]:
    """Yield every error class of the registry that has a code of its own."""
    waiting = [RegistryError]
    while waiting:
        found = waiting.pop().__subclasses__()
        waiting += found
        yield from (one for one in found if "code" in vars(one))


STATUS = {
    "model_not_found": 404,
    "model_exists": 409,
    "key_not_found": 404,
    "project_not_found": 404,
    "webhook_not_found": 404,
    "delivery_not_found": 404,
    "too_many_webhooks": 409,
    "project_exists": 409,
    "project_in_use": 409,
    "dataset_not_found": 404,
    "dataset_exists": 409,
    "strategy_not_offered": 409,
    "network_not_offered": 409,
    "dataset_not_offered": 409,
    "unknown_label": 404,
    "label_already_learned": 409,
    "label_not_learned": 422,
    "label_forgotten": 422,
    "forgotten_with_less": 409,
    "forget_unfinished": 409,
    "nothing_to_follow": 409,
    "too_many_repetitions": 409,
    "model_busy": 409,
    "guarantee_not_possible": 409,
    "model_has_no_version": 409,
    "nothing_permanent": 409,
    "stale_base": 409,
    "version_not_found": 404,
    "alias_not_found": 404,
    "no_earlier_version": 409,
    "report_not_found": 404,
    "report_deleted": 410,
    "version_revoked": 410,
    "version_purged": 410,
    "version_deleted": 410,
    "version_in_use": 409,
    "receipt_not_found": 404,
    "receipt_not_ready": 409,
    "job_not_found": 404,
    "job_already_finished": 409,
    "job_not_finished": 409,
    "job_already_succeeded": 409,
    "job_not_repeatable": 409,
    "idempotency_key_reused": 422,
    "idempotency_in_flight": 409,
    "sample_not_found": 404,
    "export_not_found": 404,
    "export_file_not_found": 404,
    "export_file_not_ready": 409,
    "export_already_finished": 409,
    "export_files_deleted": 410,
    "too_many_exports": 429,
    "artifact_missing": 503,
    "artifact_corrupt": 503,
    "artifact_unreadable": 503,
    "signing_key_unusable": 503,
    "invalid_text": 422,
    "queue_full": 429,
    "too_many_messages": 429,
    "dataset_in_use": 409,
    "images_deleted": 409,
    "quota_exceeded": 413,
    "database_unavailable": 503,
    "store_unusable": 503,
    "storage_full": 507,
}
"""The HTTP status of every registry error that a request can lead to, by the error's code."""

# --- what is wrong with the request as HTTP ---------------------------------------------------------

INVALID_HTTP = ErrorKind(
    400, "invalid_http", "The request is not valid HTTP/1.1.", "Mend the client, or use a library for HTTP."
)
INCOMPLETE_BODY = ErrorKind(
    400,
    "incomplete_body",
    "The body is shorter than its Content-Length says.",
    "Send the whole body, or the right Content-Length.",
)
UPGRADE_NOT_SUPPORTED = ErrorKind(
    400,
    "upgrade_not_supported",
    "The request asks for another protocol, such as WebSocket.",
    "Leave the header Upgrade out.",
)
INVALID_HOST = ErrorKind(
    400, "invalid_host", "The request has no Host header, or several.", "Send one Host header."
)
TOO_MANY_PARAMETERS = ErrorKind(
    400,
    "too_many_parameters",
    "The URL has more query parameters than any request needs.",
    "Leave out what the operation does not take.",
)
HEADER_TOO_LONG = ErrorKind(
    400, "header_too_long", "The header Accept lists too many media types.", "Name those that you can read."
)
REPEATED_HEADER = ErrorKind(
    400, "repeated_header", "The header Palimpsest-Project is there twice.", "Send it once."
)
HEADER_NOT_SUPPORTED = ErrorKind(
    400,
    "header_not_supported",
    "The request has a header that begins with Palimpsest- and that the service does not know, or one that "
    "the operation cannot honour: Palimpsest-Project, or Last-Event-ID.",
    "Correct its name, or leave it out.",
)
NOT_ACCEPTABLE = ErrorKind(
    406,
    "not_acceptable",
    "The answer is not available in a media type that Accept allows.",
    "Accept one that the message names, or `*/*`.",
)
REQUEST_TIMEOUT = ErrorKind(
    408,
    "request_timeout",
    "The headers or the body of the request did not arrive in time.",
    "Send the request again, over a faster connection.",
)
URI_TOO_LONG = ErrorKind(414, "uri_too_long", "The URL is too long.", "Shorten it.")
UNSUPPORTED_CONTENT_ENCODING = ErrorKind(
    415,
    "unsupported_content_encoding",
    "The body is compressed or encoded in another way.",
    "Send the body as it is, without Content-Encoding.",
)
HOST_NOT_ALLOWED = ErrorKind(
    421,
    "host_not_allowed",
    "The Host header names a service that this one is not.",
    "Use the address of the service; whoever runs it can add a name to PALIMPSEST_ALLOWED_HOSTS.",
)
RATE_LIMITED = ErrorKind(
    429,
    "rate_limited",
    "The client sends more requests a second than it may.",
    "Wait as long as Retry-After says, and send fewer.",
)
PIPELINE_TOO_LONG = ErrorKind(
    429,
    "pipeline_too_long",
    "Too many requests wait for their answers on one connection.",
    "Read the answers before you send more, or use several connections.",
)
HEADERS_TOO_LARGE = ErrorKind(
    431,
    "headers_too_large",
    "The request has too many headers, or they are too large.",
    "Send fewer or shorter ones.",
)
INTERNAL_ERROR = ErrorKind(
    500,
    "internal_error",
    "A fault of the service.",
    "Report it, with the line of the service's log that has the `request_id`.",
)
UNSUPPORTED_TRANSFER_ENCODING = ErrorKind(
    501,
    "unsupported_transfer_encoding",
    "The Transfer-Encoding of the body is not supported.",
    "Send `chunked`, in HTTP/1.1.",
)
DATASET_UNREADABLE = ErrorKind(
    503,
    "dataset_unreadable",
    "The files of the dataset in the data folder cannot be read.",
    "Whoever runs the service checks that folder; `palimpsest doctor` tells what is wrong.",
)
STORAGE_UNAVAILABLE = ErrorKind(
    503,
    "storage_unavailable",
    "A disk of the service fails, or does not answer.",
    "Try again later; whoever runs the service checks the disk.",
)
TOO_MANY_CONNECTIONS = ErrorKind(
    503,
    "too_many_connections",
    "The service, or this client, has as many connections as it may.",
    "Close those that are not needed, and try again in a moment.",
)
HTTP_VERSION_NOT_SUPPORTED = ErrorKind(
    505, "http_version_not_supported", "The request is not in HTTP/1.1.", "Send it as HTTP/1.1."
)

# --- what is wrong with the URL, the body or a condition --------------------------------------------

INVALID_JSON = ErrorKind(
    400,
    "invalid_json",
    "The body is not valid JSON; NaN, Infinity and repeated keys are not.",
    "Send one JSON object in UTF-8.",
)
BODY_REQUIRED = ErrorKind(400, "body_required", "The body is empty.", "Send a JSON object.")
JSON_TOO_DEEP = ErrorKind(
    400,
    "json_too_deep",
    "The body has more levels of nested objects and arrays than any request needs.",
    "Leave out what the operation does not take.",
)
INVALID_DIGEST = ErrorKind(
    400,
    "invalid_digest",
    "The header Content-Digest or Repr-Digest is malformed.",
    "Send it as RFC 9530 says, such as `sha-256=:BASE64:`.",
)
INVALID_IDEMPOTENCY_KEY = ErrorKind(
    400,
    "invalid_idempotency_key",
    "The Idempotency-Key is not one text of 1 to 255 printable ASCII characters.",
    "Send such a text, for instance a UUID.",
)
IDEMPOTENCY_KEY_NOT_SUPPORTED = ErrorKind(
    400,
    "idempotency_key_not_supported",
    "The operation takes no Idempotency-Key.",
    "Leave it out: repeating the request is harmless.",
)
ROUTE_NOT_FOUND = ErrorKind(
    404, "route_not_found", "There is nothing at this URL.", "/docs lists the URLs of the API."
)
FILE_NOT_FOUND = ErrorKind(
    404, "file_not_found", "The version has no file of this name.", "Choose one that the message names."
)
PICTURE_NOT_FOUND = ErrorKind(
    404,
    "picture_not_found",
    "The report has no recovered images of this label.",
    "The report lists the labels that it has images of.",
)
EXAMPLE_NOT_FOUND = ErrorKind(
    404,
    "example_not_found",
    "The dataset has fewer images of the label, or its files are not in the data folder of the service.",
    "Ask for a smaller index; a worker downloads the files when a model first learns from the dataset.",
)
VERSION_NOT_FOUND = ErrorKind(
    404,
    "version_not_found",
    "The text can name no version.",
    "Name a version by its number, by an alias, or by `head`.",
)
METHOD_NOT_ALLOWED = ErrorKind(
    405, "method_not_allowed", "The URL does not allow this method.", "Use one that the header Allow names."
)
DATASET_BUILT_IN = ErrorKind(
    409,
    "dataset_built_in",
    "The dataset comes with the service, so that its images cannot be deleted.",
    "Leave it out; only uploaded images can be deleted.",
)
RESOURCE_GONE = ErrorKind(
    410,
    "resource_gone",
    "The request was answered before with something that has been deleted since.",
    "Send it with another Idempotency-Key to make a new one.",
)
IMAGES_GONE = replace(kind_of(ImagesDeleted), status=410)
FILE_PURGED = ErrorKind(
    410,
    "file_purged",
    "A purge deleted the picture together with the weights that had drawn it.",
    "Nothing: that is what a purge is for.",
)
PRECONDITION_FAILED = ErrorKind(
    412,
    "precondition_failed",
    "The resource is not as If-Match or If-None-Match says, or the operation compares no ETag.",
    "Read the resource again, and send the request with its new ETag, or without the condition.",
)
PAYLOAD_TOO_LARGE = ErrorKind(
    413, "payload_too_large", "The body is larger than the operation takes.", "Send a smaller one."
)
UNSUPPORTED_MEDIA_TYPE = ErrorKind(
    415,
    "unsupported_media_type",
    "The Content-Type of the body is none that the operation takes.",
    "Send the one that the header Accept of the answer names.",
)
UNSAFE_SERIALIZATION = ErrorKind(
    415,
    "unsafe_serialization",
    "The upload has an array of Python objects, which could run code when it is read.",
    "Save arrays of numbers and text, with `allow_pickle=False`.",
)
RANGE_NOT_SATISFIABLE = ErrorKind(
    416,
    "range_not_satisfiable",
    "The file is shorter than the requested range.",
    "Request a range within the file; Content-Range has its size.",
)
PRECONDITION_REQUIRED = ErrorKind(
    428,
    "precondition_required",
    "The resource exists, and is changed only for a client that has seen it.",
    "Send its ETag in If-Match.",
)

# --- who may do it, and when ------------------------------------------------------------------------

AUTH_REQUIRED = ErrorKind(
    401, "auth_required", "The request has no API key.", "Send one: `Authorization: Bearer KEY`."
)
INVALID_API_KEY = ErrorKind(
    401,
    "invalid_api_key",
    "The API key is unknown, mistyped, revoked or expired.",
    "Ask whoever runs the service for another one.",
)
INSUFFICIENT_SCOPE = ErrorKind(
    403,
    "insufficient_scope",
    "The API key lacks the scope that the operation needs, or belongs to one project only.",
    "Use a key with the scope that the message names.",
)
CROSS_SITE_REQUEST = ErrorKind(
    403,
    "cross_site_request",
    "A page of another site made the browser send the request.",
    "Send it from the console, or from a program.",
)
CONCURRENCY_LIMITED = ErrorKind(
    429,
    "concurrency_limited",
    "The server does as much of this work as it may already: drawing, uploads or streams of events.",
    "Try again in a moment.",
)
