"""Data sources, their checks, and torch data sets for training."""
