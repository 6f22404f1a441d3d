"""Engines of the dense CRF: the permutohedral lattice and the mean field behind it.

An engine is a module with a class ``Lattice`` and a function ``mean_field`` of the same meaning:
``numba_engine`` (CPU, fast) and ``torch_engine`` (any device). What the user sees of them is
:mod:`pipeline.masks.dense_crf`.
"""
