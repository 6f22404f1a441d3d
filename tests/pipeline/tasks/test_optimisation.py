"""The optimisers: every setting arrives in the group of parameters that it is meant for."""

import pytest
import torch

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.optimisation import build_optimizer, optimizer_and_schedule, polynomial_schedule
from pipeline.tasks.segmenter import SegmenterTask

SETTINGS = {"learning_rate": 0.25, "head_learning_rate": 0.5, "weight_decay": 0.125}


def weights():
    return torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))


def built(optimizer, **changed):
    backbone, head = weights()
    config = SegmenterConfig(optimizer=optimizer, **{**SETTINGS, **changed})
    return build_optimizer(config, [backbone], [head]), backbone, head


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_each_group_has_its_rate_and_both_decay(name):
    optimizer, backbone, head = built(name)

    first, second = optimizer.param_groups
    assert (first["params"], second["params"]) == ([backbone], [head])
    assert (first["lr"], second["lr"]) == (0.25, 0.5)
    assert first["weight_decay"] == second["weight_decay"] == 0.125


def test_sgd_keeps_nine_tenths_of_its_momentum_by_hand():
    optimizer, backbone, _ = built("sgd", weight_decay=0.0)
    for _ in range(2):
        backbone.grad = torch.ones(1)
        optimizer.step()

    torch.testing.assert_close(backbone.detach(), torch.tensor([1 - 0.25 * 1 - 0.25 * 1.9]))


def test_weights_decay_without_a_gradient_by_hand():
    optimizer, backbone, head = built("adamw")
    for weight in (backbone, head):
        weight.grad = torch.zeros(1)
    optimizer.step()

    torch.testing.assert_close(backbone.detach(), torch.tensor([1 - 0.25 * 0.125]))
    torch.testing.assert_close(head.detach(), torch.tensor([1 - 0.5 * 0.125]))


def test_the_schedule_by_hand():
    optimizer, *_ = built("sgd")
    schedule = polynomial_schedule(optimizer, steps=10, warmup=0.2)
    rates = []
    for _ in range(11):
        rates.append(schedule.get_last_lr()[0] / 0.25)
        optimizer.step()
        schedule.step()

    assert rates[:3] == pytest.approx([1e-3, 0.5, 1.0])
    assert rates[3:] == pytest.approx([(1 - k / 8) ** 0.9 for k in range(1, 9)])


def test_the_schedule_moves_with_every_step():
    backbone, head = weights()

    made = optimizer_and_schedule(SegmenterConfig(**SETTINGS), [backbone], [head], 7)

    assert made["lr_scheduler"]["interval"] == "step"


class Trainer:
    estimated_stepping_batches = 5


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (ClassifierTask, ClassifierConfig(library="timm", backbone="test_resnet", **SETTINGS)),
        (SegmenterTask, SegmenterConfig(arch="linknet", encoder="tu-test_resnet", **SETTINGS)),
    ],
    ids=["classifier", "segmenter"],
)
def test_the_pretrained_part_has_the_lower_rate(kind, config):
    task = kind.from_config(config, ("a", "b"))
    head = "head." if kind is ClassifierTask else None
    task._trainer = Trainer()
    optimizer = task.configure_optimizers()["optimizer"]

    slow, fast = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    names = dict(task.network.named_parameters())
    below = {n for n in names if (not n.startswith(head) if head else n.startswith("encoder."))}
    assert slow == {id(names[name]) for name in below}
    assert fast == {id(p) for name, p in names.items() if name not in below}
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.25, 0.5]
