"""Does the saliency of a patch rank as what its deletion costs?"""

import torch
from torch import Tensor

from tsgb.metrics._checks import check_positive
from tsgb.metrics._perturbation import Experiment, Model
from tsgb.metrics.grid import cell_of_pixel
from tsgb.metrics.sanity import spearman


def single_deletion(
    model: Model,
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    baseline: Tensor | float = 0.0,
    side: int = 4,
    batch_size: int = 32,
) -> Tensor:
    """Rank correlation of the saliency of patches with the drop of the logit when each is deleted.

    The published score, IDSDS, is the mean over images under a network that was **fine-tuned on
    images with deleted patches**, so that such images lie in its domain. This function computes
    the score for any model and trains none: with an ordinary network it is a single deletion
    out of domain, which mixes the quality of the map with the network's surprise at a blank patch.

    Args:
        model: Gives logits [B, classes]; in evaluation mode. Called without gradients.
        images: Normalised as the model expects, [B, C, H, W].
        maps: One map per image at the size of the image, [B, H, W]; signed, summed in each patch.
        targets: One class index per image, [B].
        baseline: What stands in a deleted patch: a number, or a tensor that expands to ``images``.
        side: Patches on a side of the image.
        batch_size: Images per call of the model.

    Returns:
        One correlation per image, [B], in [-1, 1]; higher is better. Where all patches have the
        same saliency or cost it is 0.

    Raises:
        NonFiniteError: Images, maps or what the model answers hold NaN or infinity.
        ShapeError: Maps, targets or baseline do not fit the images. Resize the maps.
        TargetError: A target is not a class index.
        ValueError: ``side`` or ``batch_size`` is out of range.

    References:
        Hesse et al., "Benchmarking the Attribution Quality of Vision Models", NeurIPS 2024
        (in-domain single deletion score; 4 x 4 patches and Spearman's correlation as in its code).

    Example:
        >>> import torch
        >>> corner = lambda images: images[:, :1, 0, 0]
        >>> images, maps = torch.ones(1, 3, 8, 8), torch.zeros(1, 8, 8)
        >>> maps[0, 0, 0] = 5.0
        >>> single_deletion(corner, images, maps, torch.tensor([0]))
        tensor([1.])
    """
    check_positive("single_deletion", "side", side)
    experiment = Experiment(
        "single_deletion", model, images, maps, targets, lambda logits: logits, batch_size
    )
    blank = experiment.like_images("baseline", baseline)
    cells = cell_of_pixel(images, side)
    whole = experiment.probabilities(images)
    costs = [
        whole - experiment.probabilities(torch.where(cells == cell, blank, images))
        for cell in range(side**2)
    ]
    sums = experiment.maps.new_zeros(len(images), side**2)
    sums.index_add_(1, cells.flatten(), experiment.maps.flatten(1))
    return spearman(sums.view(-1, side, side), torch.stack(costs, 1).view(-1, side, side))
