"""A deterministic simulation of queue owners, their journal and their restore.

A model broker and a model SMTP peer run under a virtual clock; the rules under test are the real ones. A history is
named by its seed: `python -m tests.simulation --seed N` runs it again and prints it.
"""
