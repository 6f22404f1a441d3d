"""Do the maps stay the same where the image hardly changes?"""

from collections.abc import Callable

import torch
from torch import Tensor

from tsgb.errors import ShapeError
from tsgb.metrics._checks import check_positive, checked_values


def max_sensitivity(
    attribute: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    *,
    radius: float = 0.2,
    samples: int = 10,
    random_seed: int = 0,
) -> Tensor:
    """The largest relative change of a map in a small neighbourhood of its image.

    ``max ||map(x + u) - map(x)|| / ||map(x)||`` over ``samples`` draws of ``u``, uniform in
    [-radius, radius] for each value of the image: a lower bound of the maximum. The division makes
    methods of any scale comparable; a map of zeros is not divided.

    Args:
        attribute: From images and targets to maps [B, H, W] or [B, K, H, W], such as
            ``TSGB(model).attribute``. Called once more than ``samples``.
        images: Normalised as the model expects, [B, C, H, W].
        targets: Passed on to ``attribute``.
        radius: Largest change of a value, in the units of ``images``; above 0.
        samples: Changed images.
        random_seed: Seed of the changes, which are the same on every device and for every method.

    Returns:
        One number per map, [B] or [B, K], at least 0; lower is better, and 0 for a method that
        looks at nothing, so read it beside a metric of faithfulness.

    Raises:
        NonFiniteError: A map holds NaN or infinity.
        ShapeError: The method answers with other shapes for changed images.
        ValueError: ``radius`` or ``samples`` is out of range.

    References:
        Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019
        (definition 2: max-sensitivity, Monte Carlo).

    Example:
        >>> import torch
        >>> constant = lambda images, targets: torch.ones_like(images[:, 0])
        >>> max_sensitivity(constant, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
        tensor([0., 0.])
    """
    check_positive("max_sensitivity", "samples", samples)
    if not radius > 0:
        raise ValueError(
            f"max_sensitivity: radius is {radius}. No image would change. Use 0.2 for images of "
            "standard deviation 1."
        )
    original = _maps(attribute, images, targets)
    norm = torch.linalg.matrix_norm(original)
    norm = torch.where(norm > 0, norm, 1.0)
    generator = torch.Generator().manual_seed(random_seed)
    largest = torch.zeros_like(norm)
    for _ in range(samples):
        noise = torch.rand(images.shape, generator=generator).to(images) * 2 - 1
        changed = _maps(attribute, images + radius * noise, targets)
        if changed.shape != original.shape:
            raise ShapeError(
                f"max_sensitivity: maps are {tuple(original.shape)} of the images but "
                f"{tuple(changed.shape)} of changed images. They cannot be compared. Read the "
                "maps at the same layer in every call."
            )
        largest = torch.maximum(largest, torch.linalg.matrix_norm(changed - original) / norm)
    return largest


def _maps(attribute: Callable[[Tensor, Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    return checked_values("max_sensitivity", "maps", attribute(images, targets).detach())
