"""The registry: the rows of the database, the artifacts, and the rules that hold between them."""
