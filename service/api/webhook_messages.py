"""The bodies of the messages that webhooks are sent, as /openapi.json describes them.

service/registry/webhooks.py makes the messages. A test compares each type with its schema.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from service.registry.tables import Guarantee, Operation


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _OfModel(_Data):
    model: str = Field(description="The id of the model.")
    model_name: str
    job: str = Field(description="The id of the job.")


class _OfVersion(_OfModel):
    version: int = Field(description="The number of the version that the job published.")


class JobFinishedData(_OfModel):
    operation: Operation
    state: Literal["succeeded", "failed", "rejected", "cancelled"]
    code: str | None = Field(description="Why it failed or was rejected: the `code` of its error.")


class VersionPublishedData(_OfVersion):
    pass


class LabelForgottenData(_OfVersion):
    label: str
    guarantee: Guarantee | None


class LabelRelapsedData(_OfVersion):
    label: str


class WebhookTestData(_Data):
    webhook: str = Field(description="The id of the webhook.")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    timestamp: datetime = Field(description="When the message was made.")


class JobFinishedMessage(_Message):
    """A job has ended, in whatever way."""

    type: Literal["job.finished"]
    data: JobFinishedData


class VersionPublishedMessage(_Message):
    """A job has published a version."""

    type: Literal["version.published"]
    data: VersionPublishedData


class LabelForgottenMessage(_Message):
    """A label was forgotten. A forget of several labels sends one message for each."""

    type: Literal["label.forgotten"]
    data: LabelForgottenData


class LabelRelapsedMessage(_Message):
    """A new version draws a forgotten label more often than allowed."""

    type: Literal["label.relapsed"]
    data: LabelRelapsedData


class WebhookTestMessage(_Message):
    """A client tries the webhook (POST /v1/webhooks/{webhook}/test)."""

    type: Literal["webhook.test"]
    data: WebhookTestData


MESSAGES: dict[str, type[BaseModel]] = {
    "job.finished": JobFinishedMessage,
    "version.published": VersionPublishedMessage,
    "label.forgotten": LabelForgottenMessage,
    "label.relapsed": LabelRelapsedMessage,
    "webhook.test": WebhookTestMessage,
}
"""{type of a message: its body}."""

_HEADERS = {
    "webhook-id": "The id of the message, the same in each attempt.",
    "webhook-timestamp": "When the attempt was made, in seconds since 1970.",
    "webhook-signature": "The signature by the webhook's secret, as Standard Webhooks defines it.",
}


def describe_webhooks(document: dict[str, Any]) -> None:
    """Add the messages that webhooks are sent to the document."""
    _, schemas = models_json_schema(
        [(message, "validation") for message in MESSAGES.values()],
        ref_template="#/components/schemas/{model}",
    )
    document["components"]["schemas"] |= schemas["$defs"]
    document["webhooks"] = {
        type: {
            "post": {
                "operationId": f"webhooks.{type.replace('.', '_')}",
                "summary": str(message.__doc__).partition(".")[0],
                "description": message.__doc__,
                "tags": ["webhooks"],
                "parameters": [
                    {"name": name, "in": "header", "required": True, "schema": {"type": "string"},
                     "description": description}
                    for name, description in _HEADERS.items()
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": f"#/components/schemas/{message.__name__}"}}
                    },
                },
                "responses": {
                    "2XX": {"description": "The message has arrived. Any other answer has it sent again."}
                },
            }
        }
        for type, message in MESSAGES.items()
    }  # fmt: skip
