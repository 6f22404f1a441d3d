"""Data sources, their checks, and torch data sets for training."""

import os

# Or albumentations asks a package index for a newer version of itself when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
