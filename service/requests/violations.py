"""How a request says what is wrong with it: every broken rule, each with the place in the body."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """One rule that a request breaks: where (a JSON pointer into the body), a stable code, and advice."""

    pointer: str
    code: str
    detail: str


class InvalidRequest(Exception):
    """The request was understood and breaks the rules listed in `violations` (never empty)."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(violation.detail for violation in violations))
        self.violations = violations


def escape(step: str) -> str:
    """Escape one reference token of a JSON pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")
