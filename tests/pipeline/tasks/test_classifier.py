"""The classification task: what is frozen stays what it was in a real training."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from pipeline.base.config import ClassifierConfig
from pipeline.base.errors import ConfigError
from pipeline.tasks.classifier import ClassifierTask
from tests.pipeline.tasks.trained import fitted

LABELS = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]])


def task(**settings):
    torch.manual_seed(0)
    config = ClassifierConfig(library="timm", backbone="test_resnet", **settings)
    return ClassifierTask.from_config(config, ("a", "b"))


def changed(network):
    """Names of what four steps change."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = fitted(network, labels=LABELS).state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_are_frozen_in_training_if_configured(frozen):
    statistics = {name for name in changed(task(freeze_batchnorm=frozen)) if "running" in name}

    assert bool(statistics) != frozen


def test_nothing_below_the_first_layer_that_learns_changes():
    names = changed(task(freeze_until="backbone.layer3", freeze_batchnorm=False))

    below = ("conv1", "bn1", "layer1", "layer2")
    assert not [n for n in names if n.startswith(tuple(f"network.backbone.{b}" for b in below))]
    assert {"network.backbone.layer3.0.conv1.weight", "network.head.weight"} <= names


def test_a_layer_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"classifier\.freeze_until: 'backbone\.layer9'"):
        task(freeze_until="backbone.layer9")


def test_the_average_precision_is_that_of_one_validation_by_hand():
    network, logged = task(), {}
    network.log = lambda name, value: logged.update({name: float(value)})
    network.forward = lambda images: images[:, 0, 0, :2]

    for scores, labels, expected in (
        ([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [[1, 0], [0, 1], [0, 0]], (1.0, 1.0)),
        ([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [[1, 0], [0, 1], [0, 0]], (1 / 3, 1 / 3)),
    ):
        images = torch.tensor(scores)[:, None, None, :]
        network.validation_step((images, torch.tensor(labels)), 0)
        network.on_validation_epoch_end()
        assert (logged["AP/a"], logged["AP/b"]) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [1, 3])
def test_average_precision_is_that_of_scikit_learn_for_one_class_and_several(classes, monkeypatch):
    labels = (torch.rand(20, classes, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    logits = 4 * torch.randn(20, classes, generator=torch.Generator().manual_seed(2))
    names = tuple("abc"[:classes])
    network = ClassifierTask.from_config(
        ClassifierConfig(library="timm", backbone="test_resnet"), names
    )
    logged = {}
    monkeypatch.setattr(network, "log", lambda name, value: logged.update({name: float(value)}))
    monkeypatch.setattr(network, "forward", lambda images: images)
    for part in range(0, 20, 5):  # logits of one batch may all look like probabilities
        network.validation_step((logits[part : part + 5], labels[part : part + 5]), 0)

    network.on_validation_epoch_end()

    assert logged == {
        f"AP/{name}": pytest.approx(average_precision_score(labels[:, k], logits[:, k]), abs=1e-6)
        for k, name in enumerate(names)
    }
