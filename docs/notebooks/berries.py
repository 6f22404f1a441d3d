"""Drawn photos for the notebooks: tomatoes and blueberries on soil, among leaves."""

import cv2
import numpy as np

COLOURS = {"tomato": (205, 45, 30), "blueberry": (55, 75, 150), "leaf": (70, 120, 45)}
CLASSES = ("tomato", "blueberry")


def draw(rng, size=96):
    """A photo, uint8 [size, size, 3], and the names of the fruit in it, none to two of them."""
    soil = cv2.resize(rng.normal(size=(12, 12)), (size, size), interpolation=cv2.INTER_CUBIC)
    photo = np.array((115, 90, 65)) + (14 * soil + rng.normal(0, 7, (size, size)))[..., None]
    names = [name for name in CLASSES if rng.random() < 0.45]
    things = ["leaf"] * rng.integers(1, 5) + names + [n for n in names if rng.random() < 0.5]
    for name in things:
        photo = _with(photo, rng, name, size)
    return np.clip(photo, 0, 255).astype(np.uint8), names


def _with(photo, rng, name, size):
    """The photo with one more thing: a shaded ellipse with a shadow and a highlight."""
    x, y = rng.uniform(0.15, 0.85, 2) * size
    radius = size * rng.uniform(0.13, 0.2) * (0.8 if name == "blueberry" else 1)
    flat, angle = (0.45, rng.uniform(0, np.pi)) if name == "leaf" else (1, 0)
    v, u = np.mgrid[:size, :size].astype(float)
    along = (u - x) * np.cos(angle) + (v - y) * np.sin(angle)
    across = ((v - y) * np.cos(angle) - (u - x) * np.sin(angle)) / flat
    distance = np.hypot(along, across) / radius
    beside = np.hypot(along - radius / 4, across - radius / 4) / radius
    shadow = 1 - 0.45 * np.clip(1.5 - beside, 0, 1)
    light = np.hypot(along + radius / 3, across + radius / 3) / radius
    body = np.array(COLOURS[name]) * (1.25 - 0.6 * light)[..., None]
    body = body + 90 * np.exp(-((light / 0.25) ** 2))[..., None] * (name != "leaf")
    inside = np.clip((1 - distance) * radius / 2, 0, 1)[..., None]
    return inside * body + (1 - inside) * photo * shadow[..., None]
