"""ROAD: removal curves whose removed pixels are filled in from those around them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from tsgb.errors import ShapeError
from tsgb.metrics._checks import checked_values
from tsgb.metrics._perturbation import Curve, Experiment, Model, Order, Probability, softmax

_TOLERANCE = 1e-5  # of the residual; the error in the image is some ten times as large
_MOST_ITERATIONS = 500  # some 20 are needed
_DAMPING = 0.8  # of the Jacobi smoothing; any number in (0, 1) converges

Level = tuple[Tensor, Tensor]


def road(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    order: Order = "MoRF",
    fractions: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    noise: float = 0.01,
    random_seed: int = 0,
    probability: Probability = softmax,
    batch_size: int = 32,
) -> Curve:
    """Probability of the target when the pixels of the map's order are filled in from the rest.

    Blank pixels betray by their outline what was removed; :func:`noisy_linear_imputation` blurs
    it, so that the curve depends on what the pixels said. ``scores.mean(1)`` sums a curve up.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W]; only the order matters.
        targets: One class index per image, [B].
        order: "MoRF" removes the most relevant pixels first, "LeRF" the least relevant.
        fractions: Shares of the pixels to remove, ascending, in [0, 1]; rounded to whole pixels.
        noise: Standard deviation of the noise, in units of the normalised image.
        random_seed: Seed of the noise. The rest of the batch does not change an image's curve.
        probability: From logits to probabilities; ``torch.sigmoid`` for multi-label classifiers.
        batch_size: Perturbed images per call of the model, and so in memory.

    Returns:
        Curve with one point for each of ``fractions``. A faithful map is low for "MoRF" and high
        for "LeRF".

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps or targets do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``order``, ``fractions``, ``noise`` or ``batch_size`` is out of range.

    References:
        Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
        ICML 2022 (ROAD).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 4))
        >>> images = torch.rand(2, 3, 5, 5)
        >>> road(model, images, images.mean(1), torch.tensor([1, 3])).scores.shape
        torch.Size([2, 5])
    """
    experiment = Experiment("road", model, images, maps, targets, probability, batch_size)
    _check_fractions(fractions)
    _check_noise("road", noise)
    counts = torch.tensor([round(fraction * maps[0].numel()) for fraction in fractions])

    def perturb(image: Tensor, chosen: Tensor) -> Tensor:
        return noisy_linear_imputation(images[image], chosen, noise=noise, random_seed=random_seed)

    return experiment.curve(counts, order, perturb)


def noisy_linear_imputation(
    images: Tensor, removed: Tensor, *, noise: float = 0.01, random_seed: int = 0
) -> Tensor:
    """Images whose removed pixels are the weighted mean of their neighbours, plus a little noise.

    All removed pixels are solved for at once: each is the mean of its up to eight neighbours, the
    four nearest with twice the weight of the corners. An image without any pixel left becomes 0
    (plus noise).

    The linear system is solved by conjugate gradients, preconditioned with a multigrid cycle, down
    to a residual of 1e-5. On 224 x 224 photo-like images this is within 2e-4 standard deviations
    of a direct solution (single precision), well below the noise.

    Args:
        images: [B, C, H, W].
        removed: True on the pixels to replace, [B, H, W].
        noise: Standard deviation of the noise on removed pixels, in units of the images.
        random_seed: Seed of the noise; the same noise is put on every image of the batch, and the
            global random state is left alone.

    Returns:
        Images of the same shape and type; pixels that were kept are exactly the same.

    Raises:
        NonFiniteError: ``images`` holds NaN or infinity.
        ShapeError: ``images`` and ``removed`` do not fit.
        ValueError: ``noise`` is negative.

    References:
        Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
        ICML 2022 (noisy linear imputation; weights 1/6 and 1/12).

    Example:
        >>> import torch
        >>> images = torch.tensor([[[[1.0, 9.0, 2.0]]]])
        >>> removed = torch.tensor([[[False, True, False]]])
        >>> noisy_linear_imputation(images, removed, noise=0.0)
        tensor([[[[1.0000, 1.5000, 2.0000]]]])
    """
    _check_removed(images, removed)
    _check_noise("noisy_linear_imputation", noise)
    values = checked_values("noisy_linear_imputation", "images", images)
    filled = _harmonic(values, removed[:, None])
    generator = torch.Generator().manual_seed(random_seed)
    pattern = torch.randn(images.shape[1:], generator=generator).to(values)
    return torch.where(removed[:, None], filled + noise * pattern, values).to(images.dtype)


def _harmonic(images: Tensor, removed: Tensor) -> Tensor:
    """The linear solution on the removed pixels [B, 1, H, W]; anything elsewhere."""
    kept = (~removed).to(images)
    mean = (images * kept).sum((2, 3), keepdim=True) / kept.sum((2, 3), keepdim=True).clamp(min=1)
    levels = _levels(kept)
    known = _neighbours((images - mean) * kept) * levels[0][0]
    return mean + _conjugate_gradients(levels, known)


def _neighbours(values: Tensor) -> Tensor:
    """Weighted sum over the eight neighbours; beyond the border is nothing.

    Written with slices, because convolutions on a GPU may be rounded to ten bits (TF32).
    """
    padded = functional.pad(values, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    both = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return (both - 4 * values) / 12


def _levels(kept: Tensor) -> list[Level]:
    """Unknowns, and the weights of each pixel's neighbours, from fine to coarse grids.

    A coarse pixel is unknown if all its four fine ones are.
    """
    levels = [(1 - kept, _neighbours(torch.ones_like(kept[:1])))]
    while max(kept.shape[2:]) > 4:
        kept = functional.max_pool2d(kept, 2, ceil_mode=True)
        levels.append((1 - kept, _neighbours(torch.ones_like(kept[:1]))))
    return levels


def _apply(level: Level, values: Tensor) -> Tensor:
    """The matrix of the system, symmetric and positive definite on the unknowns."""
    unknown, weights = level
    return unknown * (weights * values - _neighbours(values))


def _cycle(levels: list[Level], residual: Tensor) -> Tensor:
    """An approximate solution: smooth, correct from the coarser grid, smooth (a V-cycle)."""
    unknown, weights = levels[0]
    smoothing = _DAMPING * unknown / weights.clamp(min=1 / 6)
    solution = smoothing * residual
    if len(levels) > 1:
        rest = residual - _apply(levels[0], solution)
        coarse = functional.avg_pool2d(rest, 2, ceil_mode=True, divisor_override=1)
        correction = _cycle(levels[1:], coarse * levels[1][0])
        correction = correction.repeat_interleave(2, 2).repeat_interleave(2, 3)
        height, width = residual.shape[2:]
        solution = solution + unknown * correction[..., :height, :width]
    return solution + smoothing * (residual - _apply(levels[0], solution))


def _conjugate_gradients(levels: list[Level], known: Tensor) -> Tensor:
    """Solution of the system; one for each image and channel, all at once."""
    solution, residual = torch.zeros_like(known), known
    goal = _TOLERANCE**2 * _dot(known, known)
    improved = _cycle(levels, residual)
    direction, height = improved, _dot(residual, improved)
    for _ in range(_MOST_ITERATIONS):
        active = _dot(residual, residual) > goal
        if not active.any():
            break
        image = _apply(levels[0], direction)
        step = torch.where(active, height / _dot(direction, image), 0.0)
        solution = solution + step * direction
        residual = residual - step * image
        improved = _cycle(levels, residual)
        before, height = height, _dot(residual, improved)
        direction = improved + torch.where(active, height / before, 0.0) * direction
    return solution


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((2, 3), keepdim=True)


def _check_fractions(fractions: Sequence[float]) -> None:
    ascending = all(first < second for first, second in pairwise(fractions))
    if not fractions or not ascending or not 0 <= fractions[0] <= fractions[-1] <= 1:
        raise ValueError(
            f"road: fractions are {tuple(fractions)}. They are shares of the pixels and the "
            "points of a curve. Use at least one number, in [0, 1] and ascending."
        )


def _check_noise(who: str, noise: float) -> None:
    if not noise >= 0:
        raise ValueError(
            f"{who}: noise is {noise}. A standard deviation is not negative. Use 0 for no noise."
        )


def _check_removed(images: Tensor, removed: Tensor) -> None:
    fits = images.dim() == 4 and removed.shape == (len(images), *images.shape[2:])
    if not fits or not images.is_floating_point() or removed.dtype != torch.bool:
        raise ShapeError(
            f"noisy_linear_imputation: images are {tuple(images.shape)} of {images.dtype} but "
            f"removed is {tuple(removed.shape)} of {removed.dtype}. Pass floating "
            "[B, C, H, W] and torch.bool [B, H, W], True where a pixel is to be replaced."
        )
