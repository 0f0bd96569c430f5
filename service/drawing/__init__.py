"""Drawing: from a published decoder, a label and a seed to pixels and image files."""
