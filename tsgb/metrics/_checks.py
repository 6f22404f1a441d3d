"""What every metric asks of its tensors."""

import torch
from torch import Tensor

from tsgb.errors import NonFiniteError, ShapeError


def checked_pair(who: str, saliency: Tensor, mask: Tensor) -> Tensor:
    """``saliency`` in at least single precision, once it fits ``mask``."""
    if saliency.dim() != 3 or saliency.shape != mask.shape or 0 in mask.shape[1:]:
        raise ShapeError(
            f"{who}: saliency is {tuple(saliency.shape)} but mask is {tuple(mask.shape)}; both "
            "have to be [B, H, W]. Their pixels would not belong together. Resize the map to "
            "the size of the mask, and give one class at a time with maps[:, k]."
        )
    if mask.dtype != torch.bool:
        raise ShapeError(
            f"{who}: mask has type {mask.dtype}, expected torch.bool: True on the "
            "object. Compare the label image with a class, as in labels == 15."
        )
    return checked_values(who, "saliency", saliency)


def checked_values(who: str, name: str, values: Tensor) -> Tensor:
    """``values`` in at least single precision, once all of them are finite."""
    if not values.isfinite().all():
        raise NonFiniteError(
            f"{who}: {name} holds NaN or infinity. It has no order and no sum. "
            f"Find out where {name} came from; nan_to_num() would only hide it."
        )
    return values.to(torch.promote_types(values.dtype, torch.float32))


def check_same_shape(who: str, names: tuple[str, str], first: Tensor, second: Tensor) -> None:
    """Raise ShapeError if two tensors that are compared entry by entry differ in shape."""
    if first.shape != second.shape:
        raise ShapeError(
            f"{who}: {names[0]} is {tuple(first.shape)} but {names[1]} is "
            f"{tuple(second.shape)}. Their entries would not belong together. Give both the "
            "same shape; resize maps with torch.nn.functional.interpolate()."
        )


def check_choice(who: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if ``value`` is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"{who}: {name} is {value!r}. Use one of {', '.join(choices)}.")


def check_positive(who: str, name: str, value: int) -> None:
    """Raise ValueError if ``value`` is not at least 1."""
    if value < 1:
        raise ValueError(
            f"{who}: {name} is {value}. Nothing would be computed. Use a whole number from 1."
        )
