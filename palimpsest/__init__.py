"""Palimpsest from the other side of HTTP: a typed client, and the demonstration built on it."""
