"""Index of the saliency methods that the package exports."""

import inspect

from tsgb import _exports
from tsgb.method import Method


def methods() -> dict[str, type[Method]]:
    """Every exported method by the name in its facts, in the order of ``tsgb/_exports.py``.

    Example:
        >>> methods()["grad_cam"].__name__
        'GradCAM'
    """
    exported = [value for value in vars(_exports).values() if isinstance(value, type)]
    classes = [value for value in exported if issubclass(value, Method)]
    return {value.facts.name: value for value in classes if not inspect.isabstract(value)}
