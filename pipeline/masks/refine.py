"""Refiners: probabilities that know the classes in, probabilities that know the edges out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from pipeline.base.arrays import Floats, Image
from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.dense_crf import (
    Bilateral,
    DenseCRF,
    Gaussian,
    unary_from_labels,
    unary_from_probabilities,
)

Refinement = Callable[[Image, Sequence[Floats]], list[Floats]]
"""What a refiner is: an image and several unaries of it in, as many refined ones out."""

_UNDECIDED = -1


class FeatureReader(Protocol):
    """Reads feature maps of a network, see ``pipeline.networks.features``."""

    def check(self, layers: Sequence[str]) -> None:
        """Raise where the network has no such layers."""

    def __call__(self, image: Image, layers: Sequence[str], size: float) -> list[Tensor]:
        """Maps [C, h, w] of each layer; of layers it chooses if ``layers`` is empty.

        The network sees the image at ``size`` px.
        """


@runtime_checkable
class NeedsFeatures(Protocol):
    """A refiner that looks at the image with a network."""

    def bound(self, reader: Callable[[], FeatureReader]) -> Refinement:
        """The same refiner with features that ``reader()`` reads."""


def with_features(refine: Refinement, reader: Callable[[], FeatureReader]) -> Refinement:
    """The refiner, with a network where it needs one; ``reader`` is not called where not."""
    return refine.bound(reader) if isinstance(refine, NeedsFeatures) else refine


class Chain:
    """One refiner after another: each starts from what the one before gave.

    Args:
        steps: Refiners by name, in order, at least one.

    Raises:
        ConfigError: There are no steps, or a step is none.

    Example:
        >>> even = np.full((2, 6, 6), 0.5, dtype=np.float32)
        >>> chain = Chain({"first": NoRefinement(), "second": NoRefinement()})
        >>> chain(np.zeros((6, 6, 3), dtype=np.uint8), [even])[0].shape
        (2, 6, 6)
    """

    def __init__(self, steps: Mapping[str, Refinement]) -> None:
        wrong = [name for name, step in steps.items() if not callable(step)]
        if not steps or wrong:
            raise ConfigError(
                f"Chain: steps {list(steps)}, not refiners: {wrong}. Nothing would be refined. "
                "Pass one refiner or more by name, each an option of refine."
            )
        self._steps = dict(steps)

    def bound(self, reader: Callable[[], FeatureReader]) -> Chain:
        """The same chain; steps that need a network have one."""
        return Chain({name: with_features(step, reader) for name, step in self._steps.items()})

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """Refined probabilities; see the steps for what they ask for.

        Args:
            image: RGB, uint8 [H, W, 3].
            probabilities: Each float32 [L, H, W] in [0, 1], background first.
        """
        refined = list(probabilities)
        for step in self._steps.values():
            refined = step(image, refined)
        return refined


class NoRefinement:
    """Gives the probabilities back as they came."""

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
    has them by name.

    Args:
        gaussian_sxy: Reach of the Gaussian kernel, pixels, > 0.
        gaussian_compat: Its weight, >= 0.
        bilateral_sxy: Reach of the bilateral kernel, pixels, > 0.
        bilateral_srgb: Its reach in colour, grey levels of 255, > 0.
        bilateral_compat: Its weight, >= 0.
        iterations: Mean-field steps, >= 0.
        scale_factor: Both reaches in pixels are divided by it, > 0: for images smaller by that
            factor than those that the reaches were chosen on.
        gt_prob: None takes the probabilities as they are. A number in (0, 1) makes them hard
            first: the most probable label gets this probability, the others share the rest.
        certain: With ``gt_prob``, a pixel starts undecided between all labels unless its greatest
            probability is at least this, in [0, 1].
        engine: What computes, see :class:`pipeline.masks.dense_crf.DenseCRF`.

    Raises:
        ConfigError: A value is out of its range.

    Example:
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
        certain: float = 0,
        engine: str = "auto",
    ) -> None:
        _check_options(gt_prob, certain)
        kernels = (
            Gaussian(gaussian_sxy, gaussian_compat),
            Bilateral(bilateral_sxy, bilateral_srgb, bilateral_compat),
        )
        self._crf = DenseCRF(kernels, iterations, engine=engine).scaled(scale_factor)
        self._gt_prob = gt_prob
        self._certain = certain

    def __call__(self, image: Image, probabilities: Sequence[Floats]) -> list[Floats]:
        """Marginals of the CRF for each array of probabilities; all share one lattice.

        Args:
            image: RGB, uint8 [H, W, 3].
            probabilities: Each float32 [L, H, W] in [0, 1], background first. With L = 1 (an
                image without classes) there is nothing to decide and the array comes back.

        Returns:
            One float32 [L, H, W] for each, sum 1 over the labels.

        Raises:
            DataError: Image or probabilities have another type, size or range.
        """
        check_sizes("CRFRefinement", image, probabilities)
        if all(len(planes) == 1 for planes in probabilities):
            return list(probabilities)
        prepared = self._crf.prepare(image)
        return [
            planes if len(planes) == 1 else prepared.infer(self._unary(planes))
            for planes in probabilities
        ]

    def _unary(self, planes: Floats) -> Floats:
        soft = unary_from_probabilities(planes)  # refuses what is no probability
        if self._gt_prob is None:
            return soft
        labels = planes.argmax(axis=0)
        labels[planes.max(axis=0) < self._certain] = _UNDECIDED
        return unary_from_labels(labels, len(planes), self._gt_prob, void=_UNDECIDED)


def check_sizes(refiner: str, image: Image, probabilities: Sequence[Floats]) -> None:
    """Refuse probabilities [L, H, W] of another size than ``image`` [H, W, 3].

    Raises:
        DataError: An array has another size than the image.
    """
    for index, planes in enumerate(probabilities):
        if planes.ndim != 3 or planes.shape[1:] != image.shape[:2]:
            raise DataError(
                f"{refiner}: probabilities[{index}] is {planes.shape} but the image is "
                f"{image.shape}. Masks would be shifted against it. "
                "Resize the maps to the image before they become probabilities."
            )


def _check_options(gt_prob: float | None, certain: float) -> None:
    if gt_prob is not None and not 0 < gt_prob < 1:
        raise ConfigError(
            f"CRFRefinement: gt_prob is {gt_prob}. A label would be certain beyond doubt or "
            "impossible. Pass a number in (0, 1), or null for the probabilities as they are."
        )
    if not 0 <= certain <= 1 or (certain and gt_prob is None):
        raise ConfigError(
            f"CRFRefinement: certain is {certain} with gt_prob {gt_prob}. It is the probability "
            "from which a pixel gets a hard label. Pass a number in [0, 1] together with gt_prob."
        )
