"""Small networks and the check that a model is left as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsgb._rules.ports import materialise, with_port


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fail if the block leaves any trace on ``model``: weights, hooks, flags or gradients."""
    before = _fingerprint(model)
    try:
        yield
    finally:
        after = _fingerprint(model)
        values_before, values_after = before.pop("values"), after.pop("values")
        for aspect in before:
            assert before[aspect] == after[aspect], f"{aspect} of the model changed"
        assert values_before.keys() == values_after.keys(), "state_dict keys changed"
        for key, value in values_before.items():
            assert torch.equal(value, values_after[key]), f"state_dict[{key!r}] changed"


def _fingerprint(model: nn.Module) -> dict[str, Any]:
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": {name: id(module) for name, module in modules.items()},
        "hooks": {
            name: [len(getattr(module, kind)) for kind in hooks] for name, module in modules.items()
        },
        "training": {name: module.training for name, module in modules.items()},
        "inplace": {name: getattr(module, "inplace", None) for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "parameters": {name: id(parameter) for name, parameter in parameters.items()},
        "requires_grad": {name: value.requires_grad for name, value in parameters.items()},
        "gradients": {
            name: None if value.grad is None else value.grad.tolist()
            for name, value in parameters.items()
        },
        "values": {key: value.clone() for key, value in model.state_dict().items()},
    }


def close_all_ports(patch: pytest.MonkeyPatch) -> None:
    """Let every convolution of TSGB answer with one value a channel."""
    patch.setattr(
        "tsgb._rules.convolution.with_port", lambda y, port: materialise(with_port(y, port))
    )
    patch.setattr("tsgb._rules.pooling.with_pool_port", lambda y, _: y)


class Middle(nn.Module):
    """Conv - ``middle`` - global mean - linear, with a second convolution for ``middle``."""

    def __init__(self, middle: Callable[["Middle", Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = random_statistics(nn.BatchNorm2d(channels))
        self.head = nn.Linear(channels, 5)
        self.middle = middle
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self, self.first(x)).mean((2, 3)))


def small_net() -> nn.Sequential:
    """Conv - BN - ReLU in place - pool - grouped conv - ReLU6 - mean - linear; five classes."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, groups=4),
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )
    return random_statistics(net)


def random_statistics(model: nn.Module) -> Any:
    """Give every batch norm statistics and an affine part far from the identity; eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def images(batch: int = 2, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
