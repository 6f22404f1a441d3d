"""Drawing of one built-in picture of a surface: mostly good, now and then with a defect.

A surface is a regular material under uneven light. Scratches and spots are the only class. What is
no defect resembles one: seams are straight lines from border to border, shades are as large as
spots but soft and faint. Good pictures have them too, so that neither a line nor a dark place
alone gives a defect away.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.data import textures
from pipeline.data.catalogue import BACKGROUND
from pipeline.data.scenes import OVERSAMPLING, Scene, finish

CLASSES = ("defect",)
DEFECTIVE = 0.3
"""The share of pictures with a defect."""

_DEFECT = 1  # its value in masks
_MATERIALS = (
    textures.plain, textures.stripes, textures.checker, textures.dots, textures.waves,
    textures.bricks,
)  # fmt: skip


def draw_surface(rng: np.random.Generator, size: int) -> Scene:
    """One picture of a surface; a share ``DEFECTIVE`` has one to three scratches and spots.

    Args:
        rng: Source of all random choices.
        size: Side of the square picture in pixels.
    """
    fine = size * OVERSAMPLING
    canvas = _material(rng, fine)
    for _ in range(rng.integers(0, 3)):
        _shade(rng, canvas)
    if rng.random() < 0.3:
        _seam(rng, canvas)
    values = np.full((fine, fine), BACKGROUND, np.uint8)
    if rng.random() < DEFECTIVE:
        for _ in range(rng.integers(1, 4)):
            _defect(rng, canvas, values)
    return finish(canvas * _light(rng, fine)[..., None], values, size)


def _material(rng: np.random.Generator, fine: int) -> Floats:
    """The surface ``[fine, fine, 3]``: a faint pattern between two colours, and grain."""
    dark, light = textures.dark_and_light(rng, textures.random_palette(rng))
    y, x = np.mgrid[0:fine, 0:fine].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 14) * OVERSAMPLING
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    pattern = _MATERIALS[rng.integers(len(_MATERIALS))]
    surface = pattern(
        (u / period).astype(np.float32), (v / period).astype(np.float32)
    ) * rng.uniform(0.15, 0.4)
    surface += rng.uniform(0.1, 0.3) * (textures.noise(rng, fine, (24, 48, 96)) - 0.5)
    body = rng.uniform(0.3, 0.6)
    return np.asarray(dark + (light - dark) * (body + surface)[..., None], dtype=np.float32)


def _light(rng: np.random.Generator, fine: int) -> Floats:
    """Brightness ``[fine, fine]`` that falls off to one side."""
    y, x = np.mgrid[0:fine, 0:fine].astype(np.float32) / fine - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.0, 0.35) * (x * np.cos(angle) + y * np.sin(angle))
    return np.asarray(1 + slope, dtype=np.float32)


def _shade(rng: np.random.Generator, canvas: Floats) -> None:
    """A soft, faint patch that is no defect."""
    fine = canvas.shape[0]
    patch = _blob(rng, fine, fine * rng.uniform(0.05, 0.15)).astype(np.float32)
    soft = cv2.GaussianBlur(patch, (0, 0), fine * 0.03)
    canvas *= 1 + rng.uniform(-0.2, 0.2) * soft[..., None]


def _seam(rng: np.random.Generator, canvas: Floats) -> None:
    """A straight joint from border to border that is no defect."""
    fine = canvas.shape[0]
    middle, direction = rng.uniform(0.2, 0.8, 2) * fine, rng.uniform(0, np.pi)
    reach = 2 * fine * np.array([np.cos(direction), np.sin(direction)])
    line = _line(np.stack([middle - reach, middle + reach]), fine, 3 * OVERSAMPLING)
    canvas[line] *= rng.uniform(0.5, 0.7)


def _defect(rng: np.random.Generator, canvas: Floats, values: NDArray[np.uint8]) -> None:
    """A scratch or a spot, darker or lighter than what it lies on."""
    fine = canvas.shape[0]
    if rng.random() < 0.5:
        where = _line(_scratch(rng, fine), fine, int(rng.integers(3, 6)) * OVERSAMPLING)
    else:
        where = _blob(rng, fine, fine * rng.uniform(0.04, 0.1))
    is_bright = canvas[where].mean() > rng.uniform(0.3, 0.7)  # so that the defect can be seen
    target = np.float32(0 if is_bright else 1)
    canvas[where] += rng.uniform(0.45, 0.75) * (target - canvas[where])
    values[where] = _DEFECT


def _scratch(rng: np.random.Generator, fine: int) -> NDArray[np.float64]:
    """Points of a slightly bent line that ends inside of the picture."""
    start = rng.uniform(0.15, 0.85, 2)
    angle = np.arctan2(*(0.5 - start)[::-1]) + rng.uniform(-0.8, 0.8)  # to the middle, roughly
    along = np.array([np.cos(angle), np.sin(angle)])
    t = np.linspace(0, 1, 24)[:, None]
    bend = rng.uniform(-0.2, 0.2) * t * (1 - t) * along[::-1] * (-1, 1)
    return np.asarray((start + rng.uniform(0.2, 0.5) * (t * along + bend)) * fine)


def _line(points: NDArray[np.float64], fine: int, thickness: int) -> NDArray[np.bool_]:
    """True within half of ``thickness`` of a chain of points (x, y)."""
    canvas = np.zeros((fine, fine), np.uint8)
    chain = np.rint(points).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(canvas, [chain], False, 1, thickness)
    return canvas.astype(bool)


def _blob(rng: np.random.Generator, fine: int, radius: float) -> NDArray[np.bool_]:
    """True inside of an irregular outline around a random place."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = rng.uniform(-0.15, 0.15, 3) @ np.stack(
        [np.sin(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)]
    )
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (radius * (1 + waves))[:, None]
    canvas = np.zeros((fine, fine), np.uint8)
    corners = np.rint(ring + rng.uniform(0.12, 0.88, 2) * fine).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 1)
    return canvas.astype(bool)
