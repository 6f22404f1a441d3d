"""Colours, surface patterns and backgrounds of the built-in pictures.

Patterns are functions of object coordinates, so that they rotate and scale with the object. All
colours of a picture, background included, come from one palette: colour does not reveal a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.base.arrays import Floats

Pattern = Callable[[Floats, Floats], Floats]

_PALETTES = (
    "264653 2a9d8f e9c46a f4a261 e76f51 f1faee",
    "003049 d62828 f77f00 fcbf49 eae2b7 6a994e",
    "22223b 4a4e69 9a8c98 c9ada7 f2e9e4 e07a5f",
    "0b132b 1c2541 3a506b 5bc0be f9f7f3 ff9f1c",
    "283618 606c38 a3b18a fefae0 dda15e bc6c25",
    "355070 6d597a b56576 e56b6f eaac8b f8edeb",
    "1d3557 457b9d a8dadc f1faee e63946 ffb703",
    "2b2d42 5e548e 9f86c0 e0b1cb f8f7ff ef8354",
    "3d405b 81b29a f2cc8f e07a5f f4f1de 5f797b",
    "10002b 3c096c 7b2cbf c77dff f8edff ffba08",
)


def random_palette(rng: np.random.Generator) -> Floats:
    """Colours ``[6, 3]`` that go together, RGB in [0, 1], in random order."""
    chosen = _PALETTES[rng.integers(len(_PALETTES))]
    colours = np.array([list(bytes.fromhex(text)) for text in chosen.split()], np.float32) / 255
    return np.asarray(rng.permutation(colours), dtype=np.float32)


def dark_and_light(rng: np.random.Generator, palette: Floats) -> tuple[Floats, Floats]:
    """Two colours of ``palette``, at least two steps of brightness apart, the darker one first."""
    order = palette[np.argsort(palette @ np.array([0.3, 0.6, 0.1], np.float32))]
    dark = rng.integers(0, len(order) - 2)
    light = rng.integers(dark + 2, len(order))
    return order[dark], order[light]


def stripes(u: Floats, _v: Floats) -> Floats:
    """Straight bars across ``u``. All patterns have period 1 and values in [0, 1]."""
    return _crisp(np.cos(2 * np.pi * 1.3 * u) - 0.3)


def checker(u: Floats, v: Floats) -> Floats:
    """A chess board."""
    return _crisp(np.sin(np.pi * u) * np.sin(np.pi * v), 8)


def dots(u: Floats, v: Floats) -> Floats:
    """Round dots; every other row is shifted by half a period."""
    row = np.floor(v)
    x = (u + 0.5 * (row % 2)) % 1 - 0.5
    y = v - row - 0.5
    return _crisp(0.32 - np.hypot(x, y), 12)


def waves(u: Floats, v: Floats) -> Floats:
    """Wavy bars."""
    return _crisp(np.cos(2 * np.pi * (v + 0.38 * np.sin(2 * np.pi * u * 0.55))))


def bricks(u: Floats, v: Floats) -> Floats:
    """A wall in running bond: thin joints around long bricks."""
    row = np.floor(v)
    x = (0.55 * u + 0.5 * (row % 2)) % 1
    y = v - row
    inside: Floats = np.minimum(np.minimum(x, 1 - x) / 0.55, np.minimum(y, 1 - y))
    return _crisp(inside - 0.14, 14)


def plain(u: Floats, _v: Floats) -> Floats:
    """No pattern."""
    return np.zeros_like(u)


def speckle(u: Floats, v: Floats) -> Floats:
    """An irregular interference pattern, for distractors."""
    return _crisp(np.sin(5.1 * u + 2 * np.sin(1.3 * v)) + np.sin(4.3 * v + 2 * np.sin(1.7 * u)), 2)


def noise(rng: np.random.Generator, size: int, octaves: Sequence[int]) -> Floats:
    """A smooth random field ``[size, size]`` in [0, 1]; an octave is a number of grid cells."""
    field = np.zeros((size, size), np.float32)
    for weight, cells in enumerate(octaves, start=1):
        grid = rng.random((cells + 1, cells + 1), dtype=np.float32)
        field += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / weight
    low, high = float(field.min()), float(field.max())
    return np.asarray((field - low) / (high - low), dtype=np.float32)


def background(rng: np.random.Generator, size: int, palette: Floats) -> Floats:
    """Clutter ``[size, size, 3]``: a gradient, clouds, brush strokes and fine grain."""
    far, near, cloud = palette[:3]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * np.pi)
    slope = 0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    canvas = _mix(far, near, np.clip(slope + 0.5 * noise(rng, size, (3, 6)) - 0.25, 0, 1))
    clouds = noise(rng, size, (4, 9, 19)) ** 2
    canvas = canvas + (cloud - canvas) * (rng.uniform(0.3, 0.8) * clouds)[..., None]
    _strokes(rng, canvas, palette)
    grain = noise(rng, size, (24, 48, 96)) - 0.5
    return np.asarray(canvas + rng.uniform(0.05, 0.25) * grain[..., None], dtype=np.float32)


def _strokes(rng: np.random.Generator, canvas: Floats, palette: Floats) -> None:
    """Draw curved lines in palette colours into ``canvas``."""
    size = canvas.shape[0]
    steps = np.linspace(0, 1, 24)
    layer = canvas.copy()
    for _ in range(rng.integers(3, 12)):
        start, bend, end = rng.uniform(-0.1, 1.1, (3, 2)) * size
        t = steps[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        colour = palette[rng.integers(len(palette))].tolist()
        thickness = int(rng.integers(max(1, size // 160), max(2, size // 40) + 1))
        line = np.rint(curve).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(layer, [line], False, colour, thickness, cv2.LINE_AA)
    canvas += rng.uniform(0.35, 0.8) * (layer - canvas)


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    """A blend: ``first`` where ``share`` is 0, ``second`` where it is 1."""
    return np.asarray(first + (second - first) * share[..., None], dtype=np.float32)


def _crisp(wave: Floats, sharpness: float = 4.0) -> Floats:
    """An almost binary pattern; the soft edge avoids aliasing at small sizes."""
    return np.asarray(np.clip(0.5 + sharpness * wave, 0, 1), dtype=np.float32)
