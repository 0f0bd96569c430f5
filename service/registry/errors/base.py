"""What every error of the registry has."""

from collections.abc import Iterable
from typing import ClassVar


class RegistryError(Exception):
    """The base class: the registry's rules forbid a request, or the database or a file cannot be used."""

    code: ClassVar[str] = "registry_error"
    """Part of the public API. It never changes."""
    cause: ClassVar[str] = ""
    """What leads to the error, in one sentence. docs/errors.md lists it; two classes of one code share it."""
    cure: ClassVar[str] = ""
    """What to do about it, in one sentence."""

    @property
    def message(self) -> str:
        """What was requested, what was found, and what to do next: for the user."""
        return str(self)


def quoted(labels: Iterable[str]) -> str:
    """Return the labels in quotes, separated by commas."""
    return ", ".join(repr(label) for label in labels)
