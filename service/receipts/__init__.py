"""Receipts of forget jobs: what was done in every store; how receipts are signed, verified, printed."""
