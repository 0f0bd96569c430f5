"""The command line `palimpsest`."""
