"""Whole programs that show what jaxloss is for: run one with `python -m examples.NAME`; the tests do."""
