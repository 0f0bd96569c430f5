"""Receipts of forget jobs: what was done in every store, signed, verified and printed."""
