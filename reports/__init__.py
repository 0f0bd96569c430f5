"""The report of a version: what was measured, and what it is held to."""
