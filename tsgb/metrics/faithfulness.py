"""Does the model use what the map shows? Probabilities while pixels are taken away or brought."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from tsgb.errors import ShapeError
from tsgb.metrics._perturbation import (
    Curve,
    Experiment,
    Model,
    Order,
    Perturb,
    Probability,
    softmax,
)


def removal_curve(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    order: Order = "MoRF",
    baseline: Tensor | float = 0.0,
    steps: int = 28,
    probability: Probability = softmax,
    batch_size: int = 32,
) -> Curve:
    """Probability of the target while pixels are replaced by a baseline, in the order of the map.

    The first point is the whole image, the last one the baseline alone. Among equal pixels "MoRF"
    goes in reading order; "LeRF" is exactly its reverse. A constant map therefore measures an
    arbitrary but repeatable order.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W]; only the order matters.
        targets: One class index per image, [B].
        order: "MoRF" removes the most relevant pixels first, "LeRF" the least relevant.
        baseline: What a removed pixel becomes: a number, or a tensor that expands to ``images``.
        steps: Equal parts in which the pixels are removed, at most one for each pixel.
        probability: From logits to probabilities; ``torch.sigmoid`` for multi-label classifiers.
        batch_size: Perturbed images per call of the model, and so in memory.

    Returns:
        Curve of ``steps + 1`` points. A faithful map has a low area for "MoRF", a high one for
        "LeRF".

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps, targets or baseline do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``order``, ``steps`` or ``batch_size`` is out of range.

    References:
        Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned",
        IEEE TNNLS 28, 2017 (region perturbation, MoRF and LeRF).

    Example:
        >>> import torch
        >>> mean = lambda images: images.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 0.0])
        >>> images, maps = torch.tensor([[[[4.0, 0.0]]]]), torch.tensor([[[1.0, 0.0]]])
        >>> removal_curve(mean, images, maps, torch.tensor([0]), steps=2).scores
        tensor([[0.8808, 0.5000, 0.5000]])
    """
    experiment = Experiment("removal_curve", model, images, maps, targets, probability, batch_size)
    return _removal(experiment, order, baseline, steps)


def deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    baseline: Tensor | float = 0.0,
    steps: int = 28,
    probability: Probability = softmax,
    batch_size: int = 32,
) -> Curve:
    """Probability of the target while the most salient pixels are deleted first.

    The same as :func:`removal_curve` with order "MoRF". The published score is the area with zeros
    of the normalised image as baseline and, as target, the class with the highest logit.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W]; only the order matters.
        targets: One class index per image, [B].
        baseline: What a deleted pixel becomes: a number, or a tensor that expands to ``images``.
        steps: Equal parts in which the pixels are deleted; 28 are 1792 pixels of 224 x 224 each.
        probability: From logits to probabilities; ``torch.sigmoid`` for multi-label classifiers.
        batch_size: Perturbed images per call of the model, and so in memory.

    Returns:
        Curve of ``steps + 1`` points; the lower its area, the more faithful the map.

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps, targets or baseline do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``steps`` or ``batch_size`` is out of range.

    References:
        Petsiuk et al., "RISE", BMVC 2018 (deletion; zeros, steps and area as in its code).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
        >>> images = torch.rand(2, 3, 2, 2)
        >>> deletion(model, images, images.mean(1), torch.tensor([1, 4]), steps=4).auc().shape
        torch.Size([2])
    """
    experiment = Experiment("deletion", model, images, maps, targets, probability, batch_size)
    return _removal(experiment, "MoRF", baseline, steps)


def insertion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    start: Tensor | float | None = None,
    steps: int = 28,
    probability: Probability = softmax,
    batch_size: int = 32,
) -> Curve:
    """Probability of the target while pixels are brought into a blurred image, most salient first.

    From the same start it is the "LeRF" :func:`removal_curve` read backwards.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W]; only the order matters.
        targets: One class index per image, [B].
        start: Image without the pixels: a number, a tensor that expands to ``images``, or None
            for :func:`blur` of the images.
        steps: Equal parts in which the pixels are inserted, at most one for each pixel.
        probability: From logits to probabilities; ``torch.sigmoid`` for multi-label classifiers.
        batch_size: Perturbed images per call of the model, and so in memory.

    Returns:
        Curve of ``steps + 1`` points; the higher its area, the more faithful the map.

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps, targets or start do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``steps`` or ``batch_size`` is out of range.

    References:
        Petsiuk et al., "RISE", BMVC 2018 (insertion; blur, steps and area as in its code).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
        >>> images = torch.rand(2, 3, 2, 2)
        >>> insertion(model, images, images.mean(1), torch.tensor([1, 4]), steps=4).fractions
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    experiment = Experiment("insertion", model, images, maps, targets, probability, batch_size)
    empty = blur(images) if start is None else experiment.like_images("start", start)
    return experiment.curve(experiment.even_counts(steps), "MoRF", _replacing(empty, images))


def blur(images: Tensor) -> Tensor:
    """Images under the 11 x 11 Gaussian blur of standard deviation 5 that insertion starts from.

    The tails of the Gaussian that 11 pixels cut off are folded back inside, as SciPy's filter
    does to the kernel of the authors' code. Beyond the border the image counts as 0, so a
    normalised image fades to the mean colour there.

    Args:
        images: [B, C, H, W].

    Returns:
        Blurred images of the same shape.

    Raises:
        ShapeError: ``images`` is not floating [B, C, H, W].

    References:
        Petsiuk et al., "RISE", BMVC 2018 (code, insertion).

    Example:
        >>> import torch
        >>> blur(torch.ones(1, 1, 11, 11))[0, 0, 5, 5].round(decimals=4)
        tensor(1.)
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise ShapeError(
            f"blur: images have shape {tuple(images.shape)} and type {images.dtype}, expected "
            "floating [B, C, H, W]. Rows and columns could not be told apart. "
            "Convert to float and add a batch dimension with images[None]."
        )
    kernel = torch.zeros(11, dtype=torch.float64)
    for distance in range(-20, 21):  # SciPy's filter ends after four standard deviations
        kernel[(distance + 5) % 11] += math.exp(-(distance**2) / 50)
    kernel = (kernel / kernel.sum()).to(images).view(1, 1, 11, 1)
    channels = images.flatten(0, 1)[:, None]
    rows = functional.conv2d(channels, kernel, padding=(5, 0))
    return functional.conv2d(rows, kernel.mT, padding=(0, 5)).view_as(images)


def _removal(experiment: Experiment, order: Order, baseline: Tensor | float, steps: int) -> Curve:
    removed = experiment.like_images("baseline", baseline)
    perturb = _replacing(experiment.images, removed)
    return experiment.curve(experiment.even_counts(steps), order, perturb)


def _replacing(before: Tensor, after: Tensor) -> Perturb:
    """Images of ``before`` whose chosen pixels come from ``after``."""

    def perturb(image: Tensor, chosen: Tensor) -> Tensor:
        return torch.where(chosen[:, None], after[image], before[image])

    return perturb
