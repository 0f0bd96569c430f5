"""Reports for people: lists and comparisons of figures, and the HTML page of a version."""
