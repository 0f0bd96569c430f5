"""Judging: the judge, the feature network, attacks on forgotten labels, and the reports."""
