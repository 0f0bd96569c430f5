"""Which installed package a strategy, a network or a dataset comes from, if it is not this project."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """An installed package, as its metadata names it."""

    name: str
    version: str


class NameTaken(Exception):
    """Something else has the name already; the message says what."""
