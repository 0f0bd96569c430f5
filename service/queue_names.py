"""The names of queues: a job is in one queue, and a worker takes jobs of those that it serves."""

import re

DEFAULT_QUEUE = "default"
"""The queue of jobs whose request and model name none, and of workers that are told none."""

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""No dots: a message for a queue is a file whose name ends with that of the queue, after a dot."""
RULE = "has 1 to 32 lower-case letters, digits and dashes, and begins with a letter"

MAX_SERVED = 20
"""How many queues one worker may serve."""


def parse_queues(text: str) -> str:
    """Return a list of queues, separated by commas, without spaces and repetitions. Raises ValueError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} cannot be a queue: its name {RULE}")
    unique = list(dict.fromkeys(names))
    if not 1 <= len(unique) <= MAX_SERVED:
        raise ValueError(f"name 1 to {MAX_SERVED} queues, separated by commas, such as default,gpu")
    return ",".join(unique)
