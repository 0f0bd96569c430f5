"""Experiments: each module measures quality with one command and writes JSON."""
