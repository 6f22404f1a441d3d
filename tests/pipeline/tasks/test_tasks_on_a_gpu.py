"""Training steps and predictions on a GPU that is not there: all is on it, and nobody waits."""

import pytest
import torch

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.masks.par import PixelAdaptiveRefinement
from pipeline.masks.walk import affinity, walk
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.losses import BalancedCrossEntropy, CrossEntropy
from pipeline.tasks.predictor import ClassifierPrior, LabelledPredictor, Predictor
from pipeline.tasks.saliency_predictor import SaliencyPredictor
from pipeline.tasks.segmenter import SegmenterTask
from tests.fake_gpu import GPU, fake_gpu, on_gpu
from tsgb import TSGB


@pytest.fixture
def waits(networks):
    """What waits for the GPU in the test."""
    with fake_gpu() as noted:
        yield noted
        assert noted.places == []


@pytest.fixture
def networks():
    """A classifier and a segmenter on the CPU, made before any tensor is fake."""
    classes = ("a", "b", "c")
    classifier = ClassifierConfig(library="timm", backbone="test_resnet")
    segmenter = SegmenterConfig(arch="linknet", encoder="tu-test_resnet")
    return (
        ClassifierTask.from_config(classifier, classes),
        SegmenterTask.from_config(segmenter, classes),
    )


@pytest.fixture
def classifier(networks, waits):
    return on_gpu(networks[0])


@pytest.fixture
def segmenter(networks, waits):
    return on_gpu(networks[1])


def photos(count, height=64, width=64):
    return torch.zeros(count, 3, height, width, dtype=torch.uint8, device=GPU)


def step(task, *batch):
    """One training step without Lightning's loop; the loss."""
    task.log = lambda *_, **__: None
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)
    loss = task.training_step(batch, 0)
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("loss", [CrossEntropy(), BalancedCrossEntropy()], ids=["mean", "balanced"])
def test_a_step_of_the_segmenter(segmenter, loss):
    task = segmenter.train()
    task.loss = loss

    value = step(task, photos(4), torch.zeros(4, 64, 64, dtype=torch.uint8, device=GPU))

    assert value.device.type == GPU
    assert {p.grad.device.type for p in task.parameters() if p.grad is not None} == {GPU}


def test_a_step_of_the_classifier(classifier):
    value = step(classifier.train(), photos(4), torch.zeros(4, 3, device=GPU))

    assert value.device.type == GPU


def moved(task, image, targets):
    """A batch as Lightning hands it to a task on the GPU."""
    return task.transfer_batch_to_device((image, torch.tensor([targets]), ["an id"]), GPU, 0)


@pytest.mark.parametrize(("kind", "planes"), [(Predictor, 4), (LabelledPredictor, 3)])
def test_predictions_of_the_segmenter(segmenter, classifier, kind, planes):
    prior = ClassifierPrior(classifier.eval())
    task = kind(segmenter.eval(), [0.5, 1.0], flip=True, prior=prior)

    found = task.predict_step(moved(task, photos(1, 50, 70), [0, 2]), 0)

    assert (found.device.type, tuple(found.shape)) == (GPU, (planes, 50, 70))


def test_maps_of_the_pipeline_wait_as_the_method_does(classifier, waits):
    network, normalise = classifier.eval().network, classifier.colours.normalise
    task = SaliencyPredictor(
        network, TSGB(network, layer="backbone.layer3"), size=65, scales=[1.0, 2.0], flip=True,
        normalise=normalise,
    )  # fmt: skip

    maps = task.predict_step(moved(task, photos(1, 50, 70), [0, 2]), 0)

    assert (maps.device.type, tuple(maps.shape)) == (GPU, (2, 13, 18))
    assert len(waits.places) == 2 * 2, waits.places  # at two scales
    waits.places.clear()


def test_a_walk(waits):
    features = [torch.rand(8, 6, 7, device=GPU), torch.rand(4, 3, 4, device=GPU)]

    moved_planes = walk(torch.rand(3, 42, device=GPU), affinity(features, (6, 7), 4.0), steps=2)

    assert moved_planes.device.type == GPU
    waits.places.clear()  # features are checked, layer by layer


def test_par(waits):
    refine = PixelAdaptiveRefinement(dilations=(1, 2), iterations=2).on(GPU)

    weights = refine._weights(torch.rand(3, 9, 11, device=GPU))

    assert weights.device.type == GPU
