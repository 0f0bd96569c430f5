"""Strategies that learn labels: one module, one strategy."""
