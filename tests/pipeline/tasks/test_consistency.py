"""Consistency of class maps over sizes: a distance by hand, and one that training makes smaller."""

import pytest
import torch

from pipeline.config import ClassifierConfig
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.consistency import class_maps, inconsistency
from pipeline.tasks.pixels import resize

LABELS = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]])


def noise():
    return torch.randint(0, 256, (4, 3, 96, 64), generator=torch.Generator().manual_seed(0)).byte()


def task(weight):
    torch.manual_seed(0)
    config = ClassifierConfig(library="timm", backbone="test_resnet", consistency=weight)
    task = ClassifierTask.from_config(config, ("a", "b"))
    task.logged = {}
    task.log = lambda name, value, **_: task.logged.update({name: value})
    return task.train()


def test_maps_are_clamped_and_divided_by_their_maximum():
    features = torch.tensor([[[[2.0, -4.0, 1.0]], [[0.0, 0.0, 2.0]]]])

    maps = class_maps(features, torch.tensor([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))

    expected = [[[2 / 3, 0, 1]], [[0, 1, 0]], [[0, 0, 0]]]  # the last has nothing above zero
    torch.testing.assert_close(maps, torch.tensor([expected]))


@pytest.mark.parametrize(
    "size", [(321, 321), (128, 128), (224, 256), (96, 64), (384, 100), (33, 32)]
)
def test_maps_that_follow_the_image_are_consistent_at_any_size(size):
    """A network that reads single pixels at stride 32; a smooth image, brightest in a corner."""
    rows, columns = (torch.arange(side) / 320 for side in size)
    image = (2 + torch.cos(3 * rows)[:, None] + torch.cos(2 * columns))[None, None]
    half = resize(image, (-(-size[0] // 2), -(-size[1] // 2)))

    large, small = (class_maps(x[..., ::32, ::32], torch.ones(1, 1)) for x in (image, half))

    assert inconsistency(large, small, torch.ones(1, 1)) < 0.01


def test_the_smaller_crop_moves_no_statistics():
    pair = [task(weight) for weight in (0.0, 1.0)]
    for network in pair:
        network.training_step((noise(), LABELS), 0)
    plain, consistent = (network.state_dict() for network in pair)

    moved = [name for name in plain if name.endswith(("running_mean", "running_var"))]
    assert moved
    for name in moved:
        torch.testing.assert_close(plain[name], consistent[name])


def test_the_distance_counts_the_classes_that_an_image_shows():
    large = torch.rand(2, 3, 5, 5)
    small = large[..., ::2, ::2].clone()  # what the larger ones are at the places of the smaller
    small[0, 0] += 0.3
    small[0, 1] += 1
    small[1, 2] -= 0.1

    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1]])

    torch.testing.assert_close(inconsistency(large, small, labels), torch.tensor(0.4 / 6))
    assert inconsistency(large, small, torch.zeros(2, 3)) == 0


def test_training_makes_the_distance_smaller():
    network = task(1.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    distances = []
    for _ in range(12):
        optimizer.zero_grad()
        network.training_step((noise(), LABELS), 0).backward()
        optimizer.step()
        distances.append(network.logged["inconsistency"].item())

    assert distances[-1] < 0.7 * distances[0]


def test_the_weight_is_that_of_the_sum():
    losses = {}
    for weight in (0.0, 0.5):
        network = task(weight)
        losses[weight] = network.training_step((noise(), LABELS), 0)

    assert "inconsistency" in network.logged
    expected = losses[0.0] + 0.5 * network.logged["inconsistency"]
    torch.testing.assert_close(losses[0.5], expected)


def test_without_it_nothing_runs_twice():
    network, calls = task(0.0), []
    network.network.backbone.register_forward_hook(lambda *_: calls.append(1))

    network.training_step((noise(), LABELS), 0)

    assert len(calls) == 1
    assert "inconsistency" not in network.logged
