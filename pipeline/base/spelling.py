"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


def nearest(text: str, known: Iterable[str]) -> str | None:
    """The known word that a misspelt one most likely means; None if none is near.

    Compared without case and without anything but letters and digits.

    Example:
        >>> nearest("gradcam", ["cam", "grad_cam", "tsgb"])
        'grad_cam'
    """
    plain = {re.sub(r"[\W_]", "", word.lower()): word for word in sorted(known, reverse=True)}
    found = difflib.get_close_matches(re.sub(r"[\W_]", "", text.lower()), plain, 1, 0.6)
    return plain[found[0]] if found else None


def named(text: str, known: Sequence[str]) -> str:
    """Words that follow an unknown name: the nearest one first, then all.

    Example:
        >>> named("gradcam", ["cam", "grad_cam"])
        'Did you mean grad_cam? Known are cam, grad_cam.'
    """
    near = nearest(text, known)
    return f"{f'Did you mean {near}? ' if near else ''}Known are {', '.join(known)}."
