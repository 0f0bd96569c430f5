"""Hidden units: how they are added, removed and measured."""
