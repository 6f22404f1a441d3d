"""What all metrics that ask a model have in common."""

import pytest
import torch
from metric_checks import TARGETS, data, net, one_by_one

from tsgb.errors import NonFiniteError, ShapeError, TargetError
from tsgb.metrics import (
    Curve,
    average_drop,
    average_increase,
    deletion,
    insertion,
    removal_curve,
    road,
)

METRICS = pytest.mark.parametrize(
    "metric", [removal_curve, deletion, insertion, average_drop, average_increase, road]
)


def values_of(result):
    return result.scores if isinstance(result, Curve) else result


@METRICS
@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
def test_the_size_of_a_batch_has_no_effect(metric, batch_size):
    images, maps = data()
    sizes, model = [], net()

    def counted(x):
        sizes.append(len(x))
        return model(x)

    found = metric(counted, images, maps, TARGETS, batch_size=batch_size)

    assert max(sizes) <= batch_size
    expected = metric(model, images, maps, TARGETS)
    found, expected = values_of(found), values_of(expected)
    torch.testing.assert_close(found, expected)


@METRICS
def test_a_batch_equals_its_images(metric):
    model, (images, maps) = net(), data()
    together = values_of(metric(model, images, maps, TARGETS))

    apart = [values_of(one) for one in one_by_one(metric, model, images, maps, TARGETS)]
    torch.testing.assert_close(together, torch.cat(apart))


@METRICS
def test_the_model_is_left_as_it_was(metric):
    model, (images, maps) = net(), data()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    result = metric(model, images.requires_grad_(), maps.requires_grad_(), TARGETS)

    values = values_of(result)
    assert not values.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


@METRICS
def test_half_precision_is_scored_in_single(metric):
    images, maps = data()
    model = net().bfloat16()

    result = metric(model, images.bfloat16(), maps, TARGETS)

    values = values_of(result)
    assert values.dtype == torch.float32
    assert values.isfinite().all()


@METRICS
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.rand(3, 5, 6)}, r"images have shape \(3, 5, 6\) and type torch\.float32"),
        ({"images": torch.ones(3, 3, 5, 6, dtype=torch.uint8)}, r"type torch\.uint8, expected"),
        (
            {"maps": torch.rand(3, 4, 6)},
            r"maps are \(3, 4, 6\) but images are \(3, 3, 5, 6\)\. .*interpolate\(\)\.",
        ),
        ({"maps": torch.rand(3, 1, 5, 6)}, r"maps are \(3, 1, 5, 6\) but .* with maps\[:, k\]"),
        ({"targets": TARGETS[:2]}, r"targets have shape \(2,\) and type torch\.int64 but images"),
        ({"targets": TARGETS.float()}, r"type torch\.float32 but images are \(3, 3, 5, 6\)"),
        ({"targets": TARGETS[:, None]}, r"targets have shape \(3, 1\)"),
        ({"model": lambda x: x}, r"answers \(3, 3, 5, 6\) images with \(3, 3, 5, 6\) probabili"),
    ],
)
def test_shapes_are_named(metric, changes, message):
    images, maps = data()
    arguments = {"model": net(), "images": images, "maps": maps, "targets": TARGETS, **changes}

    with pytest.raises(ShapeError, match=rf"^{metric.__name__}: .*{message}"):
        metric(**arguments, batch_size=3, probability=lambda x: x)


@METRICS
@pytest.mark.parametrize(("target", "message"), [(4, "a class of a model with 4"), (-1, "a class")])
def test_targets_that_are_no_class(metric, target, message):
    images, maps = data()

    with pytest.raises(TargetError, match=rf"^{metric.__name__}: target {target} is not {message}"):
        metric(net(), images, maps, torch.tensor([0, target, 1]))


@METRICS
def test_what_is_not_finite_is_refused(metric):
    images, maps = data()
    holes = maps.clone()
    holes[1, 2, 3] = torch.nan

    with pytest.raises(NonFiniteError, match=rf"^{metric.__name__}: maps holds NaN"):
        metric(net(), images, holes, TARGETS)
    with pytest.raises(NonFiniteError, match=rf"^{metric.__name__}: images holds NaN"):
        metric(net(), images / 0, maps, TARGETS)
    with pytest.raises(NonFiniteError, match=rf"^{metric.__name__}: the model answers"):
        metric(lambda x: net()(x) * torch.nan, images, maps, TARGETS)


@METRICS
@pytest.mark.gpu
def test_cuda_equals_cpu(metric):
    model, (images, maps) = net(), data()
    expected = metric(model, images, maps, TARGETS)

    found = metric(model.cuda(), images.cuda(), maps.cuda(), TARGETS.cuda())

    found, expected = values_of(found), values_of(expected)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
