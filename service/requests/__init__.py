"""What a client may request: the operations, the catalog they name, and uploaded datasets."""
