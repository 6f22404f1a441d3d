"""Engines of the dense CRF: the permutohedral lattice and mean-field inference.

An engine is a module with a class ``Lattice`` and a function ``mean_field``: ``numba_engine``
(CPU, fast) and ``torch_engine`` (any device). The public interface is
:mod:`pipeline.masks.dense_crf`.
"""
