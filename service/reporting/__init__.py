"""Reports for people: figures in order, and the HTML page of a version."""
