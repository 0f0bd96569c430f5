"""Violations: the rules that a request breaks, each with the place in the request."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One rule that a request breaks: a JSON pointer to the place, a stable code, and what to correct."""

    pointer: str
    code: str
    detail: str


class InvalidRequest(Exception):
    """The request breaks the rules listed in `violations`, which is never empty."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(violation.detail for violation in violations))
        self.violations = violations


def escape(step: str) -> str:
    """Escape one reference token of a JSON pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")
