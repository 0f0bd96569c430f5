"""Learning, forgetting, resizing and judging: tensors in, tensors out. No database, queue, HTTP or clock."""
