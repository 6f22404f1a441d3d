"""The segmentation task: void pixels, encoders that start from a classifier, any image size."""

from itertools import pairwise

import pytest
import torch

from pipeline.base.config import SegmenterConfig
from pipeline.base.errors import ConfigError
from pipeline.networks.backbones import build_classifier
from pipeline.tasks.optimisation import build_optimizer, polynomial_schedule
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.tasks.trained import fitted

SMALL = {"arch": "linknet", "encoder": "tu-test_resnet", "freeze_batchnorm": False}


def task(**settings):
    torch.manual_seed(0)
    return SegmenterTask.from_config(SegmenterConfig(**{**SMALL, **settings}), ("a", "b"))


def test_void_pixels_are_ignored():
    network = task().eval()
    images = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, 32:] = 255
    network.log = lambda *_, **__: None

    half = network.training_step((images, labels), 0)
    logits = network(images).float()
    expected = torch.nn.functional.cross_entropy(
        logits[:, :, :32], torch.zeros(1, 32, 64, dtype=torch.int64)
    )

    torch.testing.assert_close(half, expected)


def test_a_void_batch_has_zero_loss():
    network = task()
    network.log = lambda *_, **__: None
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)

    loss = network.training_step((images, torch.full((2, 64, 64), 255)), 0)
    loss.backward()

    assert loss == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("size", [(50, 70), (64, 64), (33, 129)])
def test_probabilities_have_the_size_of_the_image(size):
    network = task().eval()
    image = torch.randint(0, 255, (1, 3, *size), dtype=torch.uint8)

    with torch.no_grad():
        probabilities = network.predict_probabilities(image, [0.75, 1.0], flip=True)

    assert probabilities.shape == (3, *size)
    torch.testing.assert_close(probabilities.sum(0), torch.ones(size))


def test_a_mirrored_image_has_the_mirrored_prediction_with_flip():
    network = task().eval()
    image = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)

    with torch.no_grad():
        straight = network.predict_probabilities(image, [1.0], flip=True)
        mirrored = network.predict_probabilities(image.flip(-1), [1.0], flip=True)

    torch.testing.assert_close(straight, mirrored.flip(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("library", "backbone", "encoder"),
    [
        ("timm", "test_resnet", "tu-test_resnet"),
        ("torchvision", "mobilenet_v2", "mobilenet_v2"),
        ("torchvision", "resnet18", "resnet18"),
    ],
)
def test_the_encoder_starts_from_the_classifier(library, backbone, encoder):
    classifier = build_classifier(library, backbone, "none", 2)
    network = task(encoder=encoder, arch="linknet")

    network.load_encoder(classifier.state_dict(), "the classifier")

    given = classifier.backbone.state_dict()
    for key, value in network.encoder.state_dict().items():
        own = max((k for k in given if f".{key}".endswith(f".{k}")), key=len)
        torch.testing.assert_close(value, given[own])


def test_an_encoder_of_another_network_is_refused():
    classifier = build_classifier("torchvision", "resnet18", "none", 2)

    with pytest.raises(ConfigError, match=r"segmenter\.weights=classifier does not fit"):
        task().load_encoder(classifier.state_dict(), "segmenter.weights=classifier")


@pytest.mark.parametrize("settings", [{"arch": "deeplabv9"}, {"encoder": "resnet81"}])
def test_unknown_networks_are_named(settings):
    with pytest.raises(ConfigError, match=next(iter(settings.values()))):
        task(**settings)


def test_options_reach_the_architecture():
    network = task(arch="deeplabv3plus", options={"decoder_atrous_rates": [2, 3, 4]}).network

    dilations = {m.dilation for m in network.decoder.modules() if isinstance(m, torch.nn.Conv2d)}
    assert dilations == {(1, 1), (2, 2), (3, 3), (4, 4)}


def test_options_that_the_architecture_does_not_have_are_named():
    with pytest.raises(ConfigError, match=r"options=\{'decoder_rates': 3\}.*decoder_rates"):
        task(options={"decoder_rates": 3})


def test_the_rate_rises_then_falls_to_zero():
    weight = torch.nn.Parameter(torch.zeros(1))
    config = SegmenterConfig(optimizer="sgd", learning_rate=1.0, head_learning_rate=2.0)
    optimizer = build_optimizer(config, [weight], [])
    schedule = polynomial_schedule(optimizer, steps=10, warmup=0.2)

    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()

    assert rates[0] < rates[1] < rates[2] == 1.0
    assert all(a > b for a, b in pairwise(rates[2:]))
    assert schedule.get_last_lr()[0] == 0.0


def statistics(network):
    return {k: v.clone() for k, v in network.encoder.state_dict().items() if "running" in k}


@pytest.mark.parametrize("frozen", [True, False])
def test_statistics_of_the_encoder_are_frozen_in_training_if_configured(frozen):
    network = task(freeze_batchnorm=frozen)
    before = statistics(network)

    after = statistics(fitted(network))

    assert all(torch.equal(before[key], after[key]) == frozen for key in before)


def test_with_ema_the_result_is_the_average_of_the_weights():
    from pytorch_lightning.callbacks import Callback

    class Seen(Callback):
        def __init__(self):
            self.weights = []

        def on_train_batch_end(self, _trainer, task, *_):
            self.weights.append(next(task.encoder.parameters()).detach().clone())

    seen = Seen()

    network = fitted(task(ema=0.75), [seen])

    mean = seen.weights[0]
    for weights in seen.weights[1:]:
        mean = 0.75 * mean + 0.25 * weights
    own = next(network.encoder.parameters())
    torch.testing.assert_close(own.detach(), mean)
    assert not torch.allclose(own, seen.weights[-1])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_an_ema_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ConfigError, match=rf"segmenter\.ema: {decay}"):
        task(ema=decay)
