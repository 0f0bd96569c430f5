"""The processes of an instance: the supervisor, the worker that it starts, and the sweeper."""
