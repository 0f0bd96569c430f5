"""Benchmarks: each module measures speed, or compares two commits, and prints JSON."""
