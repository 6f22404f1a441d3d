"""The CPU engine of the dense CRF, compiled by numba. It needs numba and NumPy only."""

from __future__ import annotations

from pipeline.masks.crf.lattice import Lattice
from pipeline.masks.crf.mean_field import mean_field

__all__ = ["Lattice", "mean_field"]
