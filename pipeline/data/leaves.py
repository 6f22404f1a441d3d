"""Drawing of one built-in picture of leaves: three kinds that look alike in red, green and blue."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.data import textures
from pipeline.data.catalogue import BACKGROUND
from pipeline.data.scenes import OVERSAMPLING, Scene, finish

CLASSES = ("dry", "wet")
CHANNELS = 5  # red, green, blue, two of infrared

# Reflectance in the two bands of infrared, by the value in the mask; healthy leaves have no class.
_INFRARED = {BACKGROUND: (0.6, 0.4), 1: (0.4, 0.55), 2: (0.45, 0.2)}
_SHARES = (0.5, 0.25, 0.25)  # of the leaves
_GROUND = (0.35, 0.4)
_SPREAD = 0.04  # of a leaf's reflectance about that of its kind
_DARK, _FULL = 400, 11000  # what the camera counts at reflectances 0 and 1


@dataclass(frozen=True)
class _Leaf:
    """Where a leaf is on the fine grid, and its kind."""

    inside: NDArray[np.bool_]
    value: int


def draw_leaves(rng: np.random.Generator, size: int, channels: int = CHANNELS) -> Scene:
    """One picture, uint16 [size, size, channels], with two or three leaves.

    Args:
        rng: Source of all random choices.
        size: Side of the square picture in pixels.
        channels: The first bands that are kept; the choices do not depend on it.
    """
    fine = size * OVERSAMPLING
    palette = textures.random_palette(rng)
    colours = textures.background(rng, fine, palette)
    infrared = np.stack([_uneven(rng, fine, level) for level in _GROUND], axis=2)
    canvas = np.concatenate([colours, infrared], axis=2)
    values = np.zeros((fine, fine), np.uint8)
    for _ in range(rng.integers(2, 4)):
        leaf = _leaf(rng, fine)
        body = np.concatenate([palette[rng.integers(len(palette))], _infrared(rng, leaf.value)])
        light = 0.8 + 0.4 * textures.noise(rng, fine, (6, 12))[leaf.inside]
        canvas[leaf.inside] = body * light[:, None]
        values[leaf.inside] = leaf.value
    scene = finish(canvas[..., :3], values, size)  # for mask and labels
    canvas *= rng.uniform(0.8, 1.2)  # the sun
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    counts = _DARK + (_FULL - _DARK) * np.clip(small, 0, 1.5)
    counts += rng.normal(0, 60, counts.shape)
    return replace(scene, image=np.rint(counts).clip(0).astype(np.uint16)[..., :channels])


def _leaf(rng: np.random.Generator, fine: int) -> _Leaf:
    """An ellipse of any kind; what it looks like does not depend on the kind."""
    centre, angle = rng.uniform(0.15, 0.85, 2) * fine, rng.uniform(0, np.pi)
    long, wide = fine * rng.uniform(0.13, 0.24), rng.uniform(0.45, 0.75)
    y, x = np.mgrid[0:fine, 0:fine] - centre[:, None, None]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = u**2 + (v / wide) ** 2 < long**2
    return _Leaf(inside, int(rng.choice(list(_INFRARED), p=_SHARES)))


def _infrared(rng: np.random.Generator, value: int) -> Floats:
    levels = np.array(_INFRARED[value]) + rng.normal(0, _SPREAD, 2)
    return np.asarray(levels, dtype=np.float32)


def _uneven(rng: np.random.Generator, fine: int, level: float) -> Floats:
    """Ground whose reflectance varies about a level."""
    return np.asarray(level + 0.2 * (textures.noise(rng, fine, (4, 9, 19)) - 0.5), np.float32)
