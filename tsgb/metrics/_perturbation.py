"""One engine for every curve: replace pixels in the order of a map and ask the model again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tsgb.errors import NonFiniteError, ShapeError, TargetError
from tsgb.metrics._checks import check_choice, check_positive, checked_values

Model = Callable[[Tensor], Tensor]
Probability = Callable[[Tensor], Tensor]
Order = Literal["MoRF", "LeRF"]
# From the indices of some images [M] and their chosen pixels [M, H, W] to images [M, C, H, W].
Perturb = Callable[[Tensor, Tensor], Tensor]


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of classes that exclude each other.

    Example:
        >>> import torch
        >>> softmax(torch.zeros(1, 4))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    return logits.softmax(1)


@dataclass(frozen=True, eq=False)
class Curve:
    """The probability of the target while pixels are replaced.

    Attributes:
        fractions: Share of the pixels replaced at each point, ascending, [points].
        scores: Probability of the target of each image, [B, points].

    Example:
        >>> import torch
        >>> curve = Curve(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[1.0, 0.5, 0.2]]))
        >>> curve.auc()
        tensor([0.5500])
    """

    fractions: Tensor
    scores: Tensor

    def auc(self) -> Tensor:
        """Mean height of each curve, [B]: ``(sum - first / 2 - last / 2) / (points - 1)``.

        Points count as evenly spaced, as in RISE. A curve of one point has the height of it.
        """
        points = self.scores.shape[1]
        if points == 1:
            return self.scores[:, 0]
        ends = (self.scores[:, 0] + self.scores[:, -1]) / 2
        return (self.scores.sum(1) - ends) / (points - 1)


class Experiment:
    """A model, images and maps that belong together, checked.

    Args:
        who: The metric, for messages.
        model: Gives logits, [M, classes].
        images: [B, C, H, W].
        maps: [B, H, W].
        targets: Class indices, [B].
        probability: From logits to probabilities, [M, classes] both.
        batch_size: Images per call of the model.
    """

    def __init__(
        self,
        who: str,
        model: Model,
        images: Tensor,
        maps: Tensor,
        targets: Tensor,
        probability: Probability,
        batch_size: int,
    ) -> None:
        self._who = who
        self._model = model
        self._probability = probability
        self._batch_size = batch_size
        check_positive(who, "batch_size", batch_size)
        self._check_images(images, maps)
        self._check_targets(images, targets)
        checked_values(who, "images", images)
        self.images = images
        self.maps = checked_values(who, "maps", maps)
        self.targets = targets.to(images.device, torch.int64)

    def like_images(self, name: str, values: Tensor | float) -> Tensor:
        """``values`` expanded to the images."""
        tensor = torch.as_tensor(values, dtype=self.images.dtype, device=self.images.device)
        try:
            return tensor.expand_as(self.images)
        except RuntimeError as error:
            raise ShapeError(
                f"{self._who}: {name} is {tuple(tensor.shape)} but images are "
                f"{tuple(self.images.shape)}. Pass a "
                "number, [C, 1, 1] for one colour, or one image for each image."
            ) from error

    def even_counts(self, steps: int) -> Tensor:
        """Numbers of pixels after each of ``steps`` equal parts, from none to all."""
        check_positive(self._who, "steps", steps)
        pixels = self.maps[0].numel()
        steps = min(steps, pixels)
        return torch.arange(steps + 1) * pixels // steps

    def probabilities(self, images: Tensor) -> Tensor:
        """Probability of the target of each of B images, [B]."""
        pairs = zip(
            torch.split(images, self._batch_size),
            torch.split(self.targets, self._batch_size),
            strict=True,
        )
        return torch.cat([self._ask(part, targets) for part, targets in pairs])

    def curve(self, counts: Tensor, order: Order, perturb: Perturb) -> Curve:
        """The curve over the numbers of chosen pixels in ``counts``.

        Only ``batch_size`` perturbed images exist at a time, however many points there are.
        """
        ranks = self._ranks(order)
        counts = counts.to(ranks.device)
        jobs = torch.arange(len(ranks) * len(counts), device=ranks.device)
        scores = []
        for part in torch.split(jobs, self._batch_size):
            image, point = part // len(counts), part % len(counts)
            chosen = ranks[image] < counts[point][:, None, None]
            with torch.no_grad():
                perturbed = perturb(image, chosen)
            scores.append(self._ask(perturbed, self.targets[image]))
        fractions = counts.to(scores[0].dtype) / ranks[0].numel()
        return Curve(fractions, torch.cat(scores).view(len(ranks), len(counts)))

    def _ranks(self, order: Order) -> Tensor:
        """Place of each pixel in the order of removal, from 0, [B, H, W].

        Equal pixels go in reading order for MoRF; LeRF is exactly the reverse of MoRF.
        """
        check_choice(self._who, "order", order, get_args(Order))
        sorting = self.maps.flatten(1).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(sorting.shape[1], device=sorting.device).expand_as(sorting)
        ranks = torch.empty_like(sorting).scatter_(1, sorting, places)
        if order == "LeRF":
            ranks = sorting.shape[1] - 1 - ranks
        return ranks.view(self.maps.shape)

    def _ask(self, images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self._model(images)
            values = self._probability(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        if values.dim() != 2 or len(values) != len(images):
            raise ShapeError(
                f"{self._who}: the model answers {tuple(images.shape)} images with "
                f"{tuple(values.shape)} probabilities, not with [B, classes]. Pass a model "
                "and a probability that do."
            )
        highest = int(targets.max())
        if highest >= values.shape[1]:
            raise TargetError(
                f"{self._who}: target {highest} is not a class of a model with {values.shape[1]} "
                f"classes. It has no probability. Use 0 to {values.shape[1] - 1}."
            )
        chosen = values.gather(1, targets[:, None])[:, 0]
        if not chosen.isfinite().all():
            raise NonFiniteError(
                f"{self._who}: the model answers a perturbed image with NaN or infinity. The score "
                "would be meaningless. Check the model in evaluation mode on a blank image."
            )
        return chosen

    def _check_images(self, images: Tensor, maps: Tensor) -> None:
        if images.dim() != 4 or not images.is_floating_point() or images.numel() == 0:
            raise ShapeError(
                f"{self._who}: images have shape {tuple(images.shape)} and type {images.dtype}, "
                "expected floating [B, C, H, W] with B >= 1. The model could not be run. "
                "Convert to float, normalise, and add a batch dimension with images[None]."
            )
        if maps.shape != (len(images), *images.shape[2:]):
            raise ShapeError(
                f"{self._who}: maps are {tuple(maps.shape)} but images are "
                f"{tuple(images.shape)}. Each pixel needs its own saliency. Pass one map "
                "[B, H, W] per image: choose a class with maps[:, k], and resize with "
                "torch.nn.functional.interpolate()."
            )

    def _check_targets(self, images: Tensor, targets: Tensor) -> None:
        whole = not (targets.is_floating_point() or targets.is_complex())
        if targets.shape != (len(images),) or not whole or targets.dtype == torch.bool:
            raise ShapeError(
                f"{self._who}: targets have shape {tuple(targets.shape)} and type "
                f"{targets.dtype} but images are {tuple(images.shape)}. Each map explains one "
                "class. Pass one whole class index per image, [B]."
            )
        if (targets < 0).any():
            raise TargetError(
                f"{self._who}: target {int(targets.min())} is not a class index. It has no "
                "probability. Leave out images without a class."
            )
