"""Drawing of one built-in picture: objects of known classes, and distractors, on clutter.

The outline and the surface pattern of an object both belong to its class. Only a part of its body
carries the pattern, the rest is plain: the patterned part is enough for a classifier, while the
mask covers the whole object, as with the face and the body of an animal. Distractors have no
class. They share the colours of the objects and sometimes carry the pattern of a class, so that
neither colour nor pattern alone identifies a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Floats
from pipeline.data import textures
from pipeline.data.catalogue import BACKGROUND, VOID
from pipeline.data.textures import Pattern

Contours = list[NDArray[np.float64]]
Outline = Callable[[np.random.Generator], Contours]

OVERSAMPLING = 2
_FRACTION_BITS = 4  # sub-pixel bits of the polygon corners
_HIDDEN_MAX = 0.45


@dataclass(frozen=True)
class Scene:
    """A picture ``[H, W, 3]`` (RGB), its label image ``[H, W]`` and the classes in it."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class _Pose:
    """Position and radius in pixels of the fine grid, angle in radians, stretch of both axes."""

    centre: NDArray[np.float64]
    radius: float
    angle: float
    stretch: NDArray[np.float64]


@dataclass(frozen=True)
class _Thing:
    """The look of an object or a distractor in a window of the fine grid, and its mask value."""

    window: tuple[slice, slice]
    inside: NDArray[np.bool_]
    colour: Floats
    value: int


def star(rng: np.random.Generator) -> Contours:
    """Five to seven points. An outline is a list of closed contours around 0, radius about 1."""
    points = int(rng.integers(5, 8))
    angle = np.pi * np.arange(2 * points) / points
    radius = np.where(np.arange(2 * points) % 2, rng.uniform(0.5, 0.58), 1.0)
    return [_polar(angle, radius)]


def ring(rng: np.random.Generator) -> Contours:
    """A disc with a wide hole."""
    angle = _full_turn()
    return [_polar(angle, 1.0), _polar(angle, rng.uniform(0.42, 0.52))]


def gear(rng: np.random.Generator) -> Contours:
    """A wheel with square teeth and a small hole."""
    teeth = int(rng.integers(7, 11))
    angle = _full_turn(40 * teeth)
    tooth = np.clip(0.5 + 3 * np.sin(teeth * angle), 0, 1)
    return [_polar(angle, 0.76 + 0.24 * tooth), _polar(_full_turn(), 0.2)]


def leaf(rng: np.random.Generator) -> Contours:
    """Two arcs of different lengths that meet in tips."""
    t = np.linspace(0, np.pi, 48)
    width = rng.uniform(0.42, 0.56)
    bend = rng.uniform(-0.15, 0.15) * np.sin(t)
    upper = np.stack([np.cos(t), width * np.sin(t) ** 1.4 + bend], axis=1)
    lower = np.stack([np.cos(t), -width * np.sin(t) ** 1.4 + bend], axis=1)[::-1]
    return [np.concatenate([upper, lower]) * 1.15]


def cross(rng: np.random.Generator) -> Contours:
    """Four equal arms."""
    a = rng.uniform(0.28, 0.38)
    corner = np.array([[1, a], [a, a], [a, 1], [-a, 1], [-a, a], [-1, a]])
    return [np.concatenate([corner, -corner])]


def disc(_rng: np.random.Generator) -> Contours:
    """A disc without a hole, a distractor."""
    return [_polar(_full_turn(), 0.85)]


def polygon(rng: np.random.Generator) -> Contours:
    """A triangle, square, pentagon or hexagon, a distractor."""
    corners = int(rng.integers(3, 7))
    return [_polar(2 * np.pi * np.arange(corners) / corners, 0.95)]


def bar(rng: np.random.Generator) -> Contours:
    """A long rectangle, a distractor."""
    a = rng.uniform(0.2, 0.4)
    return [np.array([[1.1, a], [-1.1, a], [-1.1, -a], [1.1, -a]])]


def moon(rng: np.random.Generator) -> Contours:
    """A crescent, a distractor."""
    t = np.linspace(0, np.pi, 40)
    outer = np.stack([np.cos(t), np.sin(t)], axis=1)
    inner = np.stack([np.cos(t), rng.uniform(0.25, 0.55) * np.sin(t)], axis=1)[::-1]
    return [np.concatenate([outer, inner]) - (0, 0.4)]


CLASSES: dict[str, tuple[Outline, Pattern]] = {
    "star": (star, textures.stripes),
    "ring": (ring, textures.checker),
    "gear": (gear, textures.dots),
    "leaf": (leaf, textures.waves),
    "cross": (cross, textures.bricks),
}
_DISTRACTOR_OUTLINES: tuple[Outline, ...] = (disc, polygon, bar, moon)
_DISTRACTOR_PATTERNS: tuple[Pattern, ...] = (textures.plain, textures.plain, textures.speckle)
_BORROWED = 0.1  # share of distractors that carry the pattern of a class


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """One picture with one to three objects of one to three classes.

    Args:
        rng: Source of all random choices.
        size: Side of the square picture in pixels.
    """
    fine = size * OVERSAMPLING
    while True:
        palette = textures.random_palette(rng)
        things = [_distractor(rng, fine, palette) for _ in range(rng.integers(1, 4))]
        things += _objects(rng, fine, palette)
        if rng.random() < 0.35:
            things.append(_distractor(rng, fine, palette, largest=0.14))
        owners = _owners(things, fine)
        if all(_is_visible(owners, number, thing) for number, thing in enumerate(things)):
            break
    canvas = textures.background(rng, fine, palette)
    for thing in things:
        _paint(canvas, thing)
    values = np.array([*(thing.value for thing in things), BACKGROUND], np.uint8)[owners]
    return finish(canvas, values, size)


def _objects(rng: np.random.Generator, fine: int, palette: Floats) -> list[_Thing]:
    """One to three objects in drawing order; in 35 % of the pictures a class may occur twice."""
    count = int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))
    names = rng.choice(list(CLASSES), size=count, replace=rng.random() < 0.35)
    return [_object(rng, fine, palette, list(CLASSES).index(name)) for name in names]


def _object(rng: np.random.Generator, fine: int, palette: Floats, label: int) -> _Thing:
    outline, pattern = list(CLASSES.values())[label]
    radius = fine * rng.choice([rng.uniform(0.11, 0.17), rng.uniform(0.17, 0.31)], p=[0.2, 0.8])
    return _thing(rng, fine, palette, outline, pattern, radius, label + 1)


def _distractor(
    rng: np.random.Generator, fine: int, palette: Floats, largest: float = 0.25
) -> _Thing:
    outline = _DISTRACTOR_OUTLINES[rng.integers(len(_DISTRACTOR_OUTLINES))]
    patterns = _DISTRACTOR_PATTERNS
    if rng.random() < _BORROWED:
        patterns = tuple(pattern for _, pattern in CLASSES.values())
    pattern = patterns[rng.integers(len(patterns))]
    radius = fine * rng.uniform(0.07, largest)
    return _thing(rng, fine, palette, outline, pattern, radius, BACKGROUND)


def _thing(
    rng: np.random.Generator,
    fine: int,
    palette: Floats,
    outline: Outline,
    pattern: Pattern,
    radius: float,
    value: int,
) -> _Thing:
    pose = _Pose(
        centre=rng.uniform(0.6 * radius, fine - 0.6 * radius, 2),
        radius=radius,
        angle=rng.uniform(0, 2 * np.pi),
        stretch=rng.uniform(0.82, 1.15, 2),
    )
    corners = _placed(rng, outline(rng), pose)
    window = _window(corners, fine)
    inside = _fill(corners, window)
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    u, v = _object_coordinates(window, pose)
    period = np.clip(0.36 * radius, 6 * OVERSAMPLING, 9 * OVERSAMPLING) / radius
    period *= rng.uniform(0.85, 1.15)
    surface = pattern(u / period, v / period) * _patterned_part(rng, depth, u, v)
    body, mark = textures.dark_and_light(rng, palette)
    colour = (body + (mark - body) * surface[..., None]) * _light(depth, u, v, pose)[..., None]
    return _Thing(window, inside, np.asarray(colour, dtype=np.float32), value)


def _placed(rng: np.random.Generator, contours: Contours, pose: _Pose) -> Contours:
    """Contours bent a little, then stretched, rotated and moved to the pose."""
    waves = rng.integers(2, 5)
    phase, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.07)
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    placed = []
    for points in contours:
        angle = np.arctan2(points[:, 1], points[:, 0])
        bent = points * (1 + depth * np.sin(waves * angle + phase))[:, None]
        placed.append((bent * pose.stretch) @ turn * pose.radius + pose.centre)
    return placed


def _window(corners: Contours, fine: int) -> tuple[slice, slice]:
    """Rows and columns of the grid that the outer contour touches."""
    low = np.clip(np.floor(corners[0].min(axis=0)).astype(int), 0, fine - 1)
    high = np.clip(np.ceil(corners[0].max(axis=0)).astype(int) + 1, low + 1, fine)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _fill(corners: Contours, window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """True inside the outer contour and outside the inner one."""
    rows, columns = window
    canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    moved = [points - (columns.start, rows.start) for points in corners]
    fixed = [np.rint(points * 2**_FRACTION_BITS).astype(np.int32) for points in moved]
    cv2.fillPoly(canvas, fixed, 1, shift=_FRACTION_BITS)
    return canvas.astype(bool)


def _object_coordinates(window: tuple[slice, slice], pose: _Pose) -> tuple[Floats, Floats]:
    """Coordinates that rotate with the object, in units of its radius."""
    y, x = np.mgrid[window].astype(np.float32)
    x = (x - pose.centre[0]) / pose.radius
    y = (y - pose.centre[1]) / pose.radius
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    u, v = x * cos + y * sin, y * cos - x * sin
    return u.astype(np.float32), v.astype(np.float32)


def _patterned_part(rng: np.random.Generator, depth: Floats, u: Floats, v: Floats) -> Floats:
    """1 where the body carries its pattern: inside the rim, on one side of a line."""
    rim = depth > 0.16 * max(float(depth.max()), 1.0)
    direction = rng.uniform(0, 2 * np.pi)
    side = u * np.cos(direction) + v * np.sin(direction) > rng.uniform(-0.6, -0.1)
    return np.asarray(rim & side, dtype=np.float32)


def _light(depth: Floats, u: Floats, v: Floats, pose: _Pose) -> Floats:
    """Brightness of the body: lit from above, with a darker line along the edge."""
    upward = u * np.sin(pose.angle) + v * np.cos(pose.angle)
    edge = np.clip(depth / (1.2 * OVERSAMPLING), 0, 1) * 0.35 + 0.65
    return np.asarray((1 - 0.16 * np.clip(upward, -1, 1)) * edge, dtype=np.float32)


def _owners(things: list[_Thing], fine: int) -> NDArray[np.int8]:
    """Index of the topmost thing at every pixel of the fine grid, -1 for the background."""
    owners = np.full((fine, fine), -1, np.int8)
    for number, thing in enumerate(things):
        owners[thing.window][thing.inside] = number
    return owners


def _is_visible(owners: NDArray[np.int8], number: int, thing: _Thing) -> bool:
    """Whether enough of an object is uncovered; a distractor may be hidden."""
    seen = int(np.count_nonzero(owners[thing.window] == number))
    enough = (1 - _HIDDEN_MAX) * np.count_nonzero(thing.inside)
    return bool(thing.value == BACKGROUND or seen >= enough)


def _paint(canvas: Floats, thing: _Thing) -> None:
    """Paint a thing and its soft shadow over the canvas."""
    reach = 3 * OVERSAMPLING
    rows, columns = (slice(max(0, s.start - reach), s.stop + 2 * reach) for s in thing.window)
    below = canvas[rows, columns]
    shadow = np.zeros(below.shape[:2], np.float32)
    top, left = thing.window[0].start - rows.start, thing.window[1].start - columns.start
    height, width = thing.inside.shape
    shadow[top : top + height, left : left + width] = thing.inside
    fall = np.array([[1, 0, OVERSAMPLING // 2], [0, 1, OVERSAMPLING]], np.float32)
    shadow = cv2.warpAffine(shadow, fall, shadow.shape[::-1])
    below *= 1 - 0.45 * cv2.GaussianBlur(shadow, (0, 0), 1.4 * OVERSAMPLING)[..., None]
    canvas[thing.window][thing.inside] = thing.colour[thing.inside]


def finish(canvas: Floats, values: NDArray[np.uint8], size: int) -> Scene:
    """Reduce to the final size; mark the border between two values void, as VOC does."""
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    image = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    mask = np.ascontiguousarray(values[1::OVERSAMPLING, 1::OVERSAMPLING])
    border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    mask[border] = VOID
    shown = set(np.unique(mask).tolist()) - {BACKGROUND, VOID}
    labels = tuple(sorted(value - 1 for value in shown))
    return Scene(image, mask, labels)


def _polar(angle: NDArray[np.float64], radius: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _full_turn(steps: int = 96) -> NDArray[np.float64]:
    return np.linspace(0, 2 * np.pi, steps, endpoint=False)
