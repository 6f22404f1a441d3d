import pytest
import torch
from metric_checks import TARGETS, data, net, one_by_one

from tsgb.errors import ShapeError, TargetError
from tsgb.metrics import single_deletion


def weighted(weights):
    """The logit of class 0 is the weighted sum of a picture's pixels."""
    return lambda images: (images * weights).sum((1, 2, 3))[:, None]


def test_the_patches_of_a_linear_model_by_hand():
    weights = torch.tensor([[4.0, 1.0], [3.0, 2.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    images = torch.ones(3, 1, 4, 4)
    swapped = weights.clone()
    swapped[:2, :2], swapped[2:, :2] = 3.0, 4.0  # two neighbouring ranks: 1 - 6 * 2 / (4 * 15)

    found = single_deletion(
        weighted(weights), images, torch.stack([weights, -weights, swapped]),
        torch.tensor([0, 0, 0]), side=2,
    )  # fmt: skip

    torch.testing.assert_close(found, torch.tensor([1.0, -1.0, 0.8]))


def test_signs_cancel_within_a_patch():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0], maps[0, 0, 1], maps[0, 3, 3] = 9.0, -9.0, 1.0
    weights = torch.zeros(4, 4)
    weights[3, 3] = 1.0

    found = single_deletion(
        weighted(weights), torch.ones(1, 1, 4, 4), maps, torch.tensor([0]), side=2
    )

    torch.testing.assert_close(found, torch.ones(1))


def test_against_scipy_and_a_loop_where_patches_differ_in_size():
    stats = pytest.importorskip("scipy.stats")
    (images, maps), model = data(), net()

    found = single_deletion(model, images, maps, TARGETS, side=3, baseline=0.5)

    for image, values, target, correlation in zip(images, maps, TARGETS, found, strict=True):
        sums, costs = [], []
        for top, bottom in ((0, 2), (2, 4), (4, 5)):
            for left, right in ((0, 2), (2, 4), (4, 6)):
                changed = image.clone()
                changed[:, top:bottom, left:right] = 0.5
                with torch.no_grad():
                    cost = model(image[None])[0, target] - model(changed[None])[0, target]
                sums.append(values[top:bottom, left:right].sum().item())
                costs.append(cost.item())
        expected = stats.spearmanr(sums, costs).statistic
        assert correlation.item() == pytest.approx(expected, abs=1e-5)


def test_a_batch_equals_its_images():
    (images, maps), model = data(), net()

    together = single_deletion(model, images, maps, TARGETS, batch_size=2)

    apart = one_by_one(single_deletion, model, images, maps, TARGETS)
    torch.testing.assert_close(together, torch.cat(list(apart)))


def test_a_map_without_any_order_scores_nothing():
    images, _ = data()

    assert single_deletion(net(), images, torch.ones(3, 5, 6), TARGETS, side=1).tolist() == [0] * 3


def test_what_does_not_fit_is_refused():
    images, maps = data()
    with pytest.raises(ShapeError, match=r"^single_deletion: maps are \(3, 5, 5\)"):
        single_deletion(net(), images, maps[:, :, :5], TARGETS)
    with pytest.raises(TargetError, match="target 4 is not a class"):
        single_deletion(net(), images, maps, TARGETS + 1)
    with pytest.raises(ValueError, match="side is 0"):
        single_deletion(net(), images, maps, TARGETS, side=0)
