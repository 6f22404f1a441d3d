"""Integrated gradients: the gradient's average on the way from a baseline to the image."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tsgb._engine.forward import Forward
from tsgb._engine.forward_pass import run_forward
from tsgb._engine.sweeps import class_gradients
from tsgb.errors import ShapeError
from tsgb.facts import Facts
from tsgb.method import Method


class IntegratedGradients(Method):
    """Mean gradient on the straight path from a baseline, times the way, summed over channels.

    Signed, and complete: the map sums to the logit of the image minus the logit of the baseline.
    The integral is a midpoint sum, whose error falls with ``steps``: as ``1 / steps**2`` in smooth
    networks, at worst as ``1 / steps`` in networks of ReLUs. A map costs ``steps`` forward passes
    and one, and K backward sweeps of each. It is read at the image only, since the path is straight
    there only. Any differentiable model will do.

    Args:
        model: Classifier that returns logits.
        baseline: The image without content: a number, or a tensor that broadcasts to the images
            (``[C, 1, 1]`` for a colour). 0 is the mean colour of normalised images.
        steps: Points on the path.
        batch_size: Largest number of points in one forward pass, over all images; at least one of
            each image is used. It bounds the memory for any number of steps.

    Raises:
        NonFiniteError: NaN or infinity in ``baseline``.
        ValueError: ``steps`` or ``batch_size`` is not a whole number from 1.

    References:
        Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017 (equations 1 and
        3, with the midpoints of the steps instead of their ends).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).eval()
        >>> method = IntegratedGradients(model, steps=8)
        >>> method.attribute(torch.rand(2, 3, 4, 4), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 4, 4])
    """

    facts = Facts(
        "integrated_gradients", "Sundararajan, ICML 2017",
        cost="(1 + n) + n K", signed=True, one_pass=False,
    )  # fmt: skip

    def __init__(
        self,
        model: nn.Module,
        *,
        baseline: float | Tensor = 0.0,
        steps: int = 50,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model)
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{self._name}: {name} is {value}. Use a whole number from 1.")
        self._check_finite(("baseline's values", torch.as_tensor(baseline)))
        self._baseline = baseline
        self._steps = steps
        self._batch_size = batch_size

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        images = forward.images.detach()
        baseline = self._baseline_of(images)
        way = images - baseline
        total = images.new_zeros(targets.shape[1], *images.shape)
        for fractions in self._chunks(images):
            points = baseline + fractions.view(-1, 1, 1, 1, 1) * way
            total += self._summed_gradients(points, targets)
        return (total * way).sum(2).transpose(0, 1) / self._steps

    def _baseline_of(self, images: Tensor) -> Tensor:
        baseline = torch.as_tensor(self._baseline, dtype=images.dtype).detach()
        try:
            return baseline.to(images.device, non_blocking=True).expand_as(images)
        except RuntimeError as error:
            raise ShapeError(
                f"{self._name}: the baseline has shape {tuple(baseline.shape)}, the images "
                f"{tuple(images.shape)}. Pass a number, [C, 1, 1], [C, H, W] or one baseline for "
                "each image."
            ) from error

    def _chunks(self, images: Tensor) -> Iterator[Tensor]:
        """How far along the path the points are, as many at a time as one forward pass takes."""
        numbers = torch.arange(self._steps, dtype=images.dtype, device=images.device)
        fractions = (numbers + 0.5) / self._steps
        yield from torch.split(fractions, max(1, self._batch_size // len(images)))

    def _summed_gradients(self, points: Tensor, targets: Tensor) -> Tensor:
        """Sum over the points [S, B, C, H, W] of the gradient of each target: [K, B, C, H, W]."""
        steps = len(points)
        forward = run_forward(
            self._model, points.flatten(0, 1), layers=(), rule_set=self._rule_set, who=self._name
        )
        self._check_finite(("logits", forward.logits))
        gradients = class_gradients(forward, forward.images, targets.repeat(steps, 1))
        return torch.stack([torch.unflatten(g, 0, (steps, -1)).sum(0) for g in gradients])
