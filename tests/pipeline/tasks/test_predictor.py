"""Probabilities of one image: restricted to its label, or weighted by a classifier."""

import pytest
import torch

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.predictor import ClassifierPrior, LabelledPredictor, Predictor
from pipeline.tasks.segmenter import SegmenterTask

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = SegmenterConfig(arch="linknet", encoder="tu-test_resnet")
    return SegmenterTask.from_config(config, CLASSES).eval()


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    config = ClassifierConfig(library="timm", backbone="test_resnet", size=48)
    return ClassifierTask.from_config(config, CLASSES).eval()


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 255, (1, 3, 40, 56), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("label", [[], [1], [2, 0]])
def test_only_classes_of_the_label_are_kept_with_their_ratios(network, image, label):
    targets = torch.tensor([label], dtype=torch.int64)

    planes = LabelledPredictor(network, [1.0], flip=True).predict_step((image, targets), 0)

    every = Predictor(network, [1.0], flip=True).predict_step((image, targets), 0)
    assert planes.shape == (len(label) + 1, 40, 56)
    torch.testing.assert_close(planes.sum(0), torch.ones(40, 56))
    for index, k in enumerate(label, start=1):  # in the order of the label
        torch.testing.assert_close(planes[index] * every[0], planes[0] * every[k + 1])


def test_the_prior_multiplies_by_the_classifiers_odds_at_most_one(network, classifier, image):
    batch = (image, torch.zeros(1, 0, dtype=torch.int64))
    prior = ClassifierPrior(classifier)

    with_prior = Predictor(network, [1.0], flip=False, prior=prior).predict_step(batch, 0)

    plain = Predictor(network, [1.0], flip=False).predict_step(batch, 0)
    square = torch.nn.functional.interpolate(
        image.float(), (48, 48), mode="bilinear", align_corners=False, antialias=True
    )
    with torch.no_grad():
        shown = torch.sigmoid(classifier(square))[0].tolist()
    factors = torch.tensor([1.0, *(min(p / (1 - p), 1) for p in shown)])
    product = plain * factors[:, None, None]
    torch.testing.assert_close(with_prior, product / product.sum(0))


class Says(torch.nn.Module):
    """A classifier that gives the first image of a batch some logits, and the second others."""

    settings = ClassifierConfig(size=8)

    def __init__(self, *probabilities):
        super().__init__()
        self.logits = torch.tensor(probabilities).logit()

    def forward(self, images):
        return self.logits[: len(images)]


def test_the_factor_of_a_class_is_its_odds_up_to_one(image):
    prior = ClassifierPrior(Says([0.9, 0.5, 0.1, 0.0, 1.0]))

    factors = prior(image, flip=False)

    torch.testing.assert_close(factors, torch.tensor([1, 1, 1, 1 / 9, 0, 1]))


def test_with_flip_the_probabilities_of_both_images_are_averaged(image):
    prior = ClassifierPrior(Says([0.4, 0.2], [0.2, 0.9]))

    torch.testing.assert_close(prior(image, flip=True), torch.tensor([1, 3 / 7, 1]))


@pytest.mark.parametrize("kind", [Predictor, LabelledPredictor])
def test_an_image_without_pixels_has_no_prediction(network, kind):
    batch = (torch.zeros(1, 3, 0, 0, dtype=torch.uint8), torch.tensor([[0]]))

    failure = kind(network, [1.0], flip=False).predict_step(batch, 0)
    assert str(failure) == "cannot be read any more"


def memory_for(images, monkeypatch, method):
    """Let the network have memory for so many images at once; how many it was given each time."""
    forward, given = getattr(SegmenterTask, method), []

    def limited(network, batch):
        given.append(len(batch))
        if len(batch) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(network, batch)

    monkeypatch.setattr(SegmenterTask, method, limited)
    return given


def test_where_memory_is_short_the_mirrored_image_comes_after_the_other(
    network, image, monkeypatch
):
    batch = (image, torch.zeros(1, 0, dtype=torch.int64))
    expected = Predictor(network, [1.0, 0.5], flip=True).predict_step(batch, 0)
    given = memory_for(1, monkeypatch, "forward")
    task = Predictor(network, [1.0, 0.5], flip=True)

    found = task.predict_step(batch, 0)

    torch.testing.assert_close(found, expected)
    assert given == [2, 1, 1, 1, 1]
    task.predict_step(batch, 0)
    assert given[5:] == [2, 1, 1, 1, 1]  # the next image has its chance


def test_an_image_that_has_no_memory_at_all_is_given_up(network, image, monkeypatch):
    memory_for(0, monkeypatch, "forward")
    batch = (image, torch.zeros(1, 0, dtype=torch.int64))

    found = Predictor(network, [1.0], flip=True).predict_step(batch, 0)

    assert isinstance(found, torch.OutOfMemoryError)
    assert found.__traceback__ is None  # it would hold on to the memory
