"""Refiners: they align the probabilities of a seed with the edges of the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from threading import Lock
from typing import Protocol, runtime_checkable

from torch import Tensor

from pipeline.base.arrays import Floats, Image, Pixels
from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.dense_crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    unary_from_labels,
    unary_from_probabilities,
)

Refinement = Callable[[Pixels, Sequence[Floats]], list[Floats]]
"""A refiner maps an image and several arrays of probabilities to as many refined arrays."""

_UNDECIDED = -1
_GPU = Lock()


def turn_on(device: str) -> AbstractContextManager[object]:
    """The block in which a refiner computes on ``device``.

    Threads take turns on a GPU: more would not be faster, and each image needs its memory.
    """
    return _GPU if device.startswith("cuda") else nullcontext()


class FeatureReader(Protocol):
    """Reads feature maps of a network, see ``pipeline.networks.features``."""

    def check(self, layers: Sequence[str]) -> None:
        """Raise if the network does not have these layers."""

    def __call__(self, image: Pixels, layers: Sequence[str], size: float) -> list[Tensor]:
        """The feature map [C, h, w] of each layer, with the image resized to ``size`` px.

        If ``layers`` is empty, the reader chooses the layers.
        """


@runtime_checkable
class NeedsFeatures(Protocol):
    """A refiner that reads features of a network."""

    def bound(self, reader: Callable[[], FeatureReader]) -> Refinement:
        """The same refiner, with the features of ``reader()``."""


def with_features(refine: Refinement, reader: Callable[[], FeatureReader]) -> Refinement:
    """The refiner, bound to ``reader()`` if it needs features; if not, ``reader`` is unused."""
    return refine.bound(reader) if isinstance(refine, NeedsFeatures) else refine


@runtime_checkable
class ChoosesDevice(Protocol):
    """A refiner that can compute on a GPU."""

    def on(self, device: str) -> Refinement:
        """The same refiner for a run that computes on ``device``, such as "cpu" or "cuda:1"."""


def on_device(refine: Refinement, device: str) -> Refinement:
    """The refiner, on ``device`` if it can choose and its settings leave it the choice."""
    return refine.on(device) if isinstance(refine, ChoosesDevice) else refine


def with_pictures(refine: Refinement, picture: Callable[[Pixels], Image]) -> Refinement:
    """The refiner for images of bands: what looks at colours sees pictures of them.

    Args:
        refine: Bound to features already, if it needs any; those are of all bands.
        picture: Turns the bands [H, W, C] of an image into RGB.
    """
    if isinstance(refine, Chain):
        return refine.with_pictures(picture)
    looks = not isinstance(refine, NeedsFeatures)
    return (lambda pixels, planes: refine(picture(pixels), planes)) if looks else refine


class Chain:
    """Refiners in sequence: each starts from the result of the previous one.

    Args:
        steps: Refiners by name, in order, at least one.

    Raises:
        ConfigError: There are no steps, or a step is not a refiner.

    Example:
        >>> import numpy as np
        >>> even = np.full((2, 6, 6), 0.5, dtype=np.float32)
        >>> chain = Chain({"first": NoRefinement(), "second": NoRefinement()})
        >>> chain(np.zeros((6, 6, 3), dtype=np.uint8), [even])[0].shape
        (2, 6, 6)
    """

    def __init__(self, steps: Mapping[str, Refinement]) -> None:
        wrong = [name for name, step in steps.items() if not callable(step)]
        if not steps or wrong:
            raise ConfigError(
                f"Chain: steps are {list(steps)}, and these are not refiners: {wrong}. "
                "Pass one refiner or more by name, each an option of refine."
            )
        self._steps = dict(steps)

    def bound(self, reader: Callable[[], FeatureReader]) -> Chain:
        """The same chain, in which every step that needs features is bound to ``reader()``."""
        return Chain({name: with_features(step, reader) for name, step in self._steps.items()})

    def on(self, device: str) -> Chain:
        """The same chain, with every step that can choose on ``device``."""
        return Chain({name: on_device(step, device) for name, step in self._steps.items()})

    def with_pictures(self, picture: Callable[[Pixels], Image]) -> Chain:
        """The same chain, in which every step that looks at colours sees pictures of bands."""
        return Chain({name: with_pictures(step, picture) for name, step in self._steps.items()})

    def __call__(self, image: Pixels, probabilities: Sequence[Floats]) -> list[Floats]:
        """The probabilities after the last step.

        Args:
            image: RGB, uint8 [H, W, 3]; or what its steps take.
            probabilities: Each float32 [L, H, W] in [0, 1], background first.
        """
        refined = list(probabilities)
        for step in self._steps.values():
            refined = step(image, refined)
        return refined


class NoRefinement:
    """Returns the probabilities unchanged."""

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """The same arrays, in a list.

        Args:
            image: uint8 [H, W, 3].
            probabilities: Each float32 [L, H, W].

        Raises:
            DataError: An array has another size than the image.
        """
        check_sizes("NoRefinement", image, probabilities)
        return list(probabilities)


class CRFRefinement:
    """Dense CRF with one Gaussian and one bilateral kernel.

    The defaults are those of ``refine=crf``: DeepLab's kernels, which EPS and CLIP-ES use on
    pseudo-masks too. ``docs/dense_crf.md`` lists the settings of other work; ``configs/refine/``
    contains them by name.

    Args:
        gaussian_sxy: Standard deviation of the Gaussian kernel, pixels, > 0.
        gaussian_compat: Weight of the Gaussian kernel, >= 0.
        bilateral_sxy: Standard deviation of the bilateral kernel, pixels, > 0.
        bilateral_srgb: Its standard deviation in colour, grey levels (0 to 255), > 0.
        bilateral_compat: Weight of the bilateral kernel, >= 0.
        iterations: Mean-field steps, >= 0.
        scale_factor: Divides both standard deviations in pixels, > 0: for images smaller by this
            factor than those that the values were chosen on.
        gt_prob: None uses the probabilities as soft unaries. A number p in (0, 1) makes hard
            labels of them: the most probable label gets probability p, the others share the rest.
        min_confidence: With ``gt_prob``, pixels whose greatest probability is below this start
            with equal probabilities of all labels; in [0, 1].
        engine: Engine, see :class:`pipeline.masks.dense_crf.DenseCRF`.

    Raises:
        ConfigError: A value is out of its range.

    Example:
        >>> import numpy as np
        >>> image = np.zeros((6, 6, 3), dtype=np.uint8)
        >>> even = np.full((2, 6, 6), 0.5, dtype=np.float32)
        >>> CRFRefinement(iterations=2)(image, [even])[0].shape
        (2, 6, 6)
    """

    def __init__(
        self,
        gaussian_sxy: float = 1,
        gaussian_compat: float = 3,
        bilateral_sxy: float = 67,
        bilateral_srgb: float = 3,
        bilateral_compat: float = 4,
        iterations: int = 10,
        scale_factor: float = 1,
        gt_prob: float | None = None,
        min_confidence: float = 0,
        engine: str = "auto",
    ) -> None:
        _check_options(gt_prob, min_confidence)
        kernels = (
            Gaussian(gaussian_sxy, gaussian_compat),
            Bilateral(bilateral_sxy, bilateral_srgb, bilateral_compat),
        )
        self._crf = DenseCRF(kernels, iterations, engine=engine).scaled(scale_factor)
        self._gt_prob = gt_prob
        self._min_confidence = min_confidence

    def on(self, device: str) -> CRFRefinement:
        """The same refinement for a run that computes on ``device``; see ``DenseCRF.on``."""
        moved = copy(self)
        moved._crf = self._crf.on(device)
        return moved

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """Marginals of the CRF for each array of probabilities; all share one lattice.

        Args:
            image: RGB, uint8 [H, W, 3].
            probabilities: Each float32 [L, H, W] in [0, 1], background first. With L = 1 (an
                image without classes) the array is returned unchanged.

        Returns:
            One float32 [L, H, W] for each, sum 1 over the labels.

        Raises:
            DataError: Image or probabilities have another type, size or range.
        """
        check_sizes("CRFRefinement", image, probabilities)
        if all(len(planes) == 1 for planes in probabilities):
            return list(probabilities)
        with turn_on(self._crf.engine):
            prepared = self._crf.prepare(image)
            return [
                planes if len(planes) == 1 else prepared.infer(self._unary(planes))
                for planes in probabilities
            ]

    def _unary(self, planes: Floats) -> Floats:
        soft = unary_from_probabilities(planes)  # also checks that they are probabilities
        if self._gt_prob is None:
            return soft
        labels = planes.argmax(axis=0)
        labels[planes.max(axis=0) < self._min_confidence] = _UNDECIDED
        return unary_from_labels(labels, len(planes), self._gt_prob, void=_UNDECIDED)


def check_sizes(refiner: str, image: Pixels, probabilities: Sequence[Floats]) -> None:
    """Refuse probabilities [L, H, W] of another size than ``image`` [H, W, 3].

    Raises:
        DataError: An array has another size than the image.
    """
    for index, planes in enumerate(probabilities):
        if planes.ndim != 3 or planes.shape[1:] != image.shape[:2]:
            raise DataError(
                f"{refiner}: probabilities[{index}] is {planes.shape} but the image is "
                f"{image.shape}. Resize the maps to the image first."
            )


def _check_options(gt_prob: float | None, min_confidence: float) -> None:
    if gt_prob is not None and not 0 < gt_prob < 1:
        raise ConfigError(
            f"CRFRefinement: gt_prob is {gt_prob}. Pass a number in (0, 1), or null for soft "
            "unaries."
        )
    if not 0 <= min_confidence <= 1 or (min_confidence and gt_prob is None):
        raise ConfigError(
            f"CRFRefinement: min_confidence is {min_confidence} with gt_prob {gt_prob}. "
            "Pass a number in [0, 1] together with gt_prob."
        )
