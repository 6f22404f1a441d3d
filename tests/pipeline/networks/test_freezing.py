"""Frozen layers stay what they were; the others learn as if nothing were frozen."""

import pytest
import torch
from torch import nn

from pipeline.base.config import SegmenterConfig
from pipeline.base.errors import ConfigError
from pipeline.networks.freezing import layers_before
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.tasks.trained import fitted, noise

SETTINGS = {"arch": "linknet", "encoder": "tu-test_resnet", "freeze_batchnorm": True}
BELOW = tuple(f"encoder.model.{name}" for name in ("conv1", "bn1", "layer1", "layer2"))


def network(until=""):
    torch.manual_seed(0)
    config = SegmenterConfig(**SETTINGS, freeze_until=until)
    task = SegmenterTask.from_config(config, ("a", "b"))
    task.log = lambda *_, **__: None
    return task


def test_gradients_stop_at_the_first_layer_that_learns():
    frozen, free = network("model.layer3"), network()
    for task in (frozen, free):
        task.training_step(noise(), 0).backward()

    pairs = zip(frozen.network.named_parameters(), free.network.named_parameters(), strict=True)
    for (name, one), (_, other) in pairs:
        if name.startswith(BELOW):
            assert one.grad is None, name
            assert other.grad is not None
        else:
            assert torch.equal(one.grad, other.grad), name


def test_no_graph_is_kept_for_frozen_layers():
    task = network("model.layer3")

    features = task.encoder(torch.randn(1, 3, 64, 64))

    assert [f.requires_grad for f in features] == [False, False, False, False, True, True]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_does_not_change_frozen_weights_and_statistics(optimizer):
    """Weight decay too: it needs no gradient of the loss."""
    torch.manual_seed(0)
    task = SegmenterTask.from_config(
        SegmenterConfig(
            **{**SETTINGS, "freeze_batchnorm": False}, freeze_until="model.layer3",
            optimizer=optimizer, weight_decay=0.1,
        ),
        ("a", "b"),
    )  # fmt: skip
    before = {name: value.clone() for name, value in task.state_dict().items()}

    fitted(task)

    after = task.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith(tuple(f"network.{b}" for b in BELOW))]
    assert "network.encoder.model.layer3.0.conv1.weight" in changed
    assert "network.encoder.model.layer3.0.bn1.running_mean" in changed


def test_frozen_layers_stay_in_eval_mode():
    task = network("model.layer3").eval()

    modes = {name: layer.training for name, layer in task.train().encoder.named_modules()}

    assert not modes["model.layer1.0.bn1"]
    assert modes["model.layer3"]
    assert modes["model"]


def test_modules_that_contain_the_layer_are_not_before_it():
    chain = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))

    assert layers_before(chain, "1.1", "here") == [chain[0], chain[1][0]]
    assert layers_before(chain, "0", "here") == []


@pytest.mark.parametrize("layer", ["layer9", "", "model.layer"])
def test_a_layer_that_does_not_exist_is_refused_by_name(layer):
    encoder = network().encoder

    with pytest.raises(ConfigError, match=rf"here: '{layer}' is not a layer.*model\.layer2"):
        layers_before(encoder, layer, "here")
