"""Why an instance does not start."""


class CannotStart(Exception):
    """An instance or its worker cannot start. The message is one line: what is wrong, and what to do."""
