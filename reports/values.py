"""The base class of every part of a report."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable part of a report, which refuses unknown fields. Equal values give equal JSON.

    A class is made ready for reading and writing when it is first used, because every command imports all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def as_json(self) -> dict[str, Any]:
        """Return the value as JSON-ready dicts, lists, numbers and strings."""
        return self.model_dump(mode="json")
