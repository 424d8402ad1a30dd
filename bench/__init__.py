"""Measurements: what the send path costs and how fast it is, beside its peers. Not part of the wheel."""
