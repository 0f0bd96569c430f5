"""What every value in an answer of the server has in common."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

Json = Mapping[str, Any]
"""A JSON object in a request or a response."""


class Value(BaseModel):
    """An immutable object in an answer.

    Nothing that the server says is dropped: a field that a newer server adds is an attribute too, with its
    value as JSON has it, and `to_json()` returns the whole object as it was sent. What is one of a few words
    (a state, an operation) is a plain string, so that a word of a newer server is no error.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """Return the object as the server sent it, ready for `json.dumps`."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
