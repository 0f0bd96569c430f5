"""Strategies that forget labels: one module, one strategy."""
