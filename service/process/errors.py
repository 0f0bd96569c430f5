"""The error that an instance or its worker raises when it cannot start."""


class CannotStart(Exception):
    """An instance or its worker cannot start. The message is one line: what is wrong, and what to do."""
