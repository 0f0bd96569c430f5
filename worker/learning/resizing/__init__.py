"""Strategies that resize a network: one module, one strategy."""
