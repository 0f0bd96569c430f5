"""Processes: the supervisor, the worker it starts, and the sweeper."""
