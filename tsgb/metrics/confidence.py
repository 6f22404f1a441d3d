"""What the map shows, alone: average drop and increase of the target's probability."""

import torch
from torch import Tensor

from tsgb.metrics._perturbation import Experiment, Model, Probability, softmax


def average_drop(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    probability: Probability = softmax,
    batch_size: int = 32,
) -> Tensor:
    """Share of the target's probability that is lost when only what the map shows is left.

    ``max(0, p - p_masked) / p``, where the image is multiplied by its map scaled from its minimum
    to its maximum onto [0, 1]. A constant map shows nothing and masks the whole image; where ``p``
    is 0 nothing can be lost and the drop is 0.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W], any scale.
        targets: One class index per image, [B].
        probability: From logits to probabilities; ``torch.sigmoid`` for multi-label classifiers.
        batch_size: Images per call of the model.

    Returns:
        One share per image, [B], in [0, 1]; lower is better. The mean is the published score.

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps or targets do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``batch_size`` is out of range.

    References:
        Chattopadhay et al., "Grad-CAM++", WACV 2018 (average drop).

    Example:
        >>> import torch
        >>> mean = lambda images: images.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 0.0])
        >>> images, maps = torch.tensor([[[[4.0, 0.0]]]]), torch.tensor([[[1.0, 3.0]]])
        >>> average_drop(mean, images, maps, torch.tensor([0]))
        tensor([0.4323])
    """
    whole, masked = _with_and_without_mask(
        Experiment("average_drop", model, images, maps, targets, probability, batch_size)
    )
    drop = (whole - masked).clamp(min=0) / torch.where(whole > 0, whole, 1.0)
    return torch.where(whole > 0, drop, 0.0)


def average_increase(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    probability: Probability = softmax,
    batch_size: int = 32,
) -> Tensor:
    """1 where the target's probability rises when only what the map shows is left, else 0.

    Masked as in :func:`average_drop`; an unchanged probability counts as 0.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W], any scale.
        targets: One class index per image, [B].
        probability: From logits to probabilities; ``torch.sigmoid`` for multi-label classifiers.
        batch_size: Images per call of the model.

    Returns:
        0 or 1 per image, [B]; higher is better. The mean is the published score.

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps or targets do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``batch_size`` is out of range.

    References:
        Chattopadhay et al., "Grad-CAM++", WACV 2018 (increase in confidence).

    Example:
        >>> import torch
        >>> mean = lambda images: images.mean((1, 2, 3))[:, None] * torch.tensor([1.0, 0.0])
        >>> images, maps = torch.tensor([[[[4.0, -2.0]]]]), torch.tensor([[[3.0, 1.0]]])
        >>> average_increase(mean, images, maps, torch.tensor([0]))
        tensor([1.])
    """
    whole, masked = _with_and_without_mask(
        Experiment("average_increase", model, images, maps, targets, probability, batch_size)
    )
    return (masked > whole).to(whole)


def _with_and_without_mask(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """Probabilities of the images and of the images times their scaled maps."""
    maps = experiment.maps
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = torch.where(highest > lowest, highest - lowest, 1.0)
    mask = ((maps - lowest) / span).to(experiment.images)[:, None]
    whole = experiment.probabilities(experiment.images)
    return whole, experiment.probabilities(experiment.images * mask)
