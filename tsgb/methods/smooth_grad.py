"""SmoothGrad: the average map of noisy copies of an image."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tsgb._composition import base_method
from tsgb._engine.forward import Forward
from tsgb.facts import Facts
from tsgb.method import Method
from tsgb.methods.gradient import Gradient, LargestGradient, largest


class SmoothGrad(Method):
    """Mean of another method's maps over copies of the image with Gaussian noise.

    Where the other method takes the largest absolute gradient over channels (Gradient,
    GuidedBackprop, Deconvnet), the signed gradients are averaged first, as in the paper, so that
    differences between the copies cancel. Read-out, sign and size of the maps are those of the
    other method; the logits are those of the image without noise.

    The noise depends on ``random_seed`` alone: the same for every image of a batch, every call and
    every device. The global random state is neither read nor changed.

    Args:
        model: Classifier that returns logits and that the other method accepts.
        base: The other method, as its class, or as ``functools.partial`` of the class and options.
        samples: Noisy copies; each costs one call of the other method.
        spread: Standard deviation of the noise as a share of each image's range, largest value
            minus smallest.
        random_seed: Seed of the noise.

    Raises:
        TypeError: ``base`` is a method that has its model already, or does not make a method.
        ValueError: ``samples`` is not a whole number from 1, or ``spread`` negative or infinite.

    References:
        Smilkov et al., "SmoothGrad: removing noise by adding noise", ICML Workshop 2017
        (section 3).

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)).eval()
        >>> method = SmoothGrad(model, samples=4)
        >>> method.attribute(torch.rand(2, 3, 4, 4), torch.tensor([0, 3])).shape
        torch.Size([2, 1, 4, 4])
    """

    facts = Facts(
        "smooth_grad", "Smilkov, ICMLW 2017", "its base's", "1 + n times its base's",
        signed=None, networks="its base's", one_pass=False,
    )  # fmt: skip

    def __init__(
        self,
        model: nn.Module,
        *,
        base: Callable[[nn.Module], Method] = Gradient,
        samples: int = 25,
        spread: float = 0.15,
        random_seed: int = 0,
    ) -> None:
        super().__init__(model)
        if not isinstance(samples, int) or samples < 1 or not 0 <= spread < math.inf:
            raise ValueError(
                f"{self._name}: samples={samples}, spread={spread}. There would be no map or no "
                "noise. Use a whole number of samples from 1 and a finite spread from 0."
            )
        method = base_method(self._name, base, model)
        self._base = method.per_channel() if isinstance(method, LargestGradient) else method
        self._samples = samples
        self._spread = spread
        self._random_seed = random_seed

    def _maps(self, forward: Forward, targets: Tensor) -> Tensor:
        images = forward.images.detach()
        total = torch.zeros((), dtype=images.dtype, device=images.device)
        indices = targets.cpu()  # once, not in every call
        for noisy in self._noisy_copies(images):
            total = total + self._base.attribute(noisy, indices)
        mean = total / self._samples
        return largest(mean, 2) if isinstance(self._base, LargestGradient) else mean

    def _noisy_copies(self, images: Tensor) -> Iterator[Tensor]:
        generator = torch.Generator("cpu").manual_seed(self._random_seed)
        ranges = images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True)
        for _ in range(self._samples):
            noise = torch.randn(
                images.shape[1:], generator=generator, dtype=images.dtype, device="cpu"
            )
            yield images + self._spread * ranges * noise.to(images.device, non_blocking=True)
