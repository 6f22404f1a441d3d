"""Data sources, checks and what reads them for training."""
