"""Why an upload cannot be learned from, and the size that its images must have."""

SIDE = 28
PIXELS = SIDE * SIDE


class InvalidUpload(Exception):
    """The upload cannot be learned from. `code` is stable; the message says what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def shorten(name: str) -> str:
    """Return the name in quotes, without its end if it is long."""
    return repr(name if len(name) <= 80 else name[:79] + "…")
