"""Backups, restoring them, and the log of erasures that keeps a restored service from remembering."""
