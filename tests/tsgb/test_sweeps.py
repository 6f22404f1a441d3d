"""Several classes in one backward sweep."""

import pytest
import torch
from model_checks import Middle, random_statistics
from torch import nn
from torch.nn import functional

from tsgb import TSGB, LayerError
from tsgb._engine.sweeps import classes_that_fit

TARGETS = torch.tensor([[0, 3, -1, 4, 1], [2, 2, 1, -1, 0]])


class Everything(nn.Module):
    """One operation of each rule, and one linear layer or two."""

    def __init__(self, hidden):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.block = nn.Sequential(
            nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8),
        )  # fmt: skip
        self.split = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2)
        self.last = nn.Conv2d(16, 10, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(10, 7), nn.ReLU()) if hidden else nn.Identity()
        self.classifier = nn.Linear(7 if hidden else 10, 5)

    def forward(self, x):
        x = self.stem(x)
        x = functional.silu(x + self.block(x))
        x = functional.max_pool2d(self.split(x), 2, ceil_mode=True)
        x = torch.cat([functional.avg_pool2d(x, 3, 1, 1), x * x.mean((2, 3), True).sigmoid()], 1)
        x = functional.leaky_relu(self.last(x))
        return self.classifier(self.head(x.mean((2, 3))))


def pixels(batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 21, 18, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("options", [{}, {"skip": "proportional", "grouped": "slim"}])
@pytest.mark.parametrize("together", [1, 2, 32])
def test_several_classes_are_the_classes_one_by_one(hidden, dtype, options, together, monkeypatch):
    monkeypatch.setattr("tsgb._engine.forward_pass.classes_that_fit", lambda _: together)
    torch.manual_seed(0)
    model = random_statistics(Everything(hidden)).to(dtype)
    method = TSGB(model, kappa=0.5, **options)
    layers = ["stem", "block.3", "split", "last"]

    joint = method.attribute_layers(pixels().to(dtype), TARGETS, layers)
    image = method.attribute(pixels().to(dtype), TARGETS)

    for k, column in enumerate(TARGETS.T):
        single = method.attribute_layers(pixels().to(dtype), column, layers)
        alone = method.attribute(pixels().to(dtype), column)
        torch.testing.assert_close(image[:, k : k + 1], alone, rtol=1e-4, atol=1e-6)
        for layer in layers:
            torch.testing.assert_close(
                joint[layer][:, k : k + 1], single[layer], rtol=1e-4, atol=1e-6
            )
    assert (image[0, 0] != 0).any()
    assert (image[0, 2] == 0).all()


def test_a_layer_that_no_relevance_reaches_is_named_for_several_classes_too():
    model = Middle(lambda net, x: x + net.second(x).detach())

    with pytest.raises(LayerError, match=r"^TSGB: read-out of shape .* no relevance arrives there"):
        TSGB(model, layer="second").attribute(pixels().float(), TARGETS)


def test_as_many_classes_as_fit_into_a_cache():
    assert classes_that_fit(10**9) == 1
    assert classes_that_fit(150_000) == 10
    assert classes_that_fit(1) == 32


def test_logits_that_another_layer_uses_too():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head, self.further = (
                nn.Conv2d(3, 6, 3),
                nn.Linear(6, 5),
                nn.Linear(5, 2),
            )

        def forward(self, x):
            logits = self.head(torch.relu(self.stem(x)).mean((2, 3)))
            self.coarse = self.further(logits)
            return logits

    torch.manual_seed(0)
    model = Two().double().eval()

    maps = TSGB(model).attribute(pixels(), TARGETS)

    torch.testing.assert_close(maps[:, :1], TSGB(model).attribute(pixels(), TARGETS[:, 0]))
