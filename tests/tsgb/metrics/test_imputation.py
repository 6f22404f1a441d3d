import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_checks import net, one_by_one

from tsgb.errors import NonFiniteError, ShapeError
from tsgb.metrics import noisy_linear_imputation, road

TARGETS = torch.tensor([2, 0])


def random_images(batch=2, height=9, width=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator) + 0.5


def solved(image, removed):
    """The system of one image written out pixel by pixel and solved directly."""
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    height, width = removed.shape
    places = [tuple(place) for place in np.argwhere(removed)]
    row_of = {place: row for row, place in enumerate(places)}
    matrix = sparse.lil_matrix((len(places), len(places)))
    known = np.zeros((len(places), len(image)))
    for (y, x), row in row_of.items():
        for dy, dx in np.ndindex(3, 3):
            there = (y + dy - 1, x + dx - 1)
            inside = 0 <= there[0] < height and 0 <= there[1] < width
            if there == (y, x) or not inside:
                continue
            weight = 1 / 6 if dy == 1 or dx == 1 else 1 / 12
            matrix[row, row] += weight
            if there in row_of:
                matrix[row, row_of[there]] -= weight
            else:
                known[row] += weight * image[:, there[0], there[1]]
    filled = image.copy()
    solution = linalg.spsolve(matrix.tocsc(), known).reshape(known.shape)
    for place, row in row_of.items():
        filled[:, place[0], place[1]] = solution[row]
    return filled


def filled_as_solved(images, removed):
    """The answer for one image, after a look at the direct solution."""
    filled = noisy_linear_imputation(images, removed[None], noise=0.0)
    expected = torch.tensor(solved(images[0].double().numpy(), removed.numpy()))
    torch.testing.assert_close(filled[0].double(), expected, atol=3e-4, rtol=0)
    return filled


def masks(height, width):
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    noise = torch.rand(height, width, generator=torch.Generator().manual_seed(1))
    spiral = torch.ones(height, width, dtype=torch.bool)
    spiral[1::4, 1:] = spiral[3::4, :-1] = False  # a winding corridor
    return {
        "block": (rows - height // 2).abs().maximum((columns - width // 2).abs()) < height // 3,
        "corner": rows**2 + columns**2 < height**2,
        "half-at-random": noise < 0.5,
        "nearly-all-at-random": noise < 0.95,
        "corridor": spiral,
        "stripes": (rows + 0 * columns) % 2 == 0,
        "one-pixel-left": (rows > 0) | (columns > 0),
    }


@pytest.mark.parametrize("kind", masks(9, 11))
@pytest.mark.parametrize("size", [(9, 11), (24, 33)])
def test_imputation_against_a_direct_solution(kind, size):
    removed, images = masks(*size)[kind], random_images(1, *size)

    filled = filled_as_solved(images, removed)

    assert torch.equal(filled[0][:, ~removed], images[0][:, ~removed])


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (2, 2), (5, 2)])
def test_imputation_of_thin_images(size):
    images = random_images(1, *size)

    filled_as_solved(images, torch.arange(images[0, 0].numel()).view(size) % 10 != 1)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param((1, 1), (2 * (2 + 4 + 6 + 8) + (1 + 3 + 7 + 90)) / 12, id="centre"),
        pytest.param((0, 0), (2 * (2 + 4) + 5) / 5, id="corner"),
        pytest.param((0, 1), (2 * (1 + 3 + 5) + (4 + 6)) / 8, id="edge"),
    ],
)
def test_one_missing_pixel_by_hand(place, expected):
    images = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 90.0]]]])
    removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    removed[0][place] = True

    filled = noisy_linear_imputation(images, removed, noise=0.0)

    torch.testing.assert_close(filled[0, 0][place], torch.tensor(expected), rtol=1e-4, atol=0)


def test_a_slope_is_continued():
    rows, columns = torch.arange(12.0)[:, None], torch.arange(14.0)
    images = (3 * columns - 2 * rows + 100).expand(1, 2, 12, 14)
    removed = torch.zeros(1, 12, 14, dtype=torch.bool)
    removed[:, 2:10, 3:13] = True

    filled = noisy_linear_imputation(images, removed, noise=0.0)

    torch.testing.assert_close(filled, images.contiguous(), atol=2e-3, rtol=0)


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    share=st.floats(0, 1),
    scale=st.sampled_from([1e-30, 1.0, 1e6]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_filled_in_stays_between_what_was_kept(seed, height, width, share, scale):
    images = random_images(2, height, width, seed) * scale
    places = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed))
    removed = places < share
    removed[0, 0, 0] = removed[1, -1, -1] = False

    filled = noisy_linear_imputation(images, removed, noise=0.0)

    for image, result, gone in zip(images, filled, removed, strict=True):
        kept = image[:, ~gone]
        margin = 1e-3 * scale
        assert (result.flatten(1) >= kept.amin(1, keepdim=True) - margin).all()
        assert (result.flatten(1) <= kept.amax(1, keepdim=True) + margin).all()


def test_an_image_without_pixels_becomes_zero():
    images = random_images(2)
    removed = torch.ones(2, 9, 11, dtype=torch.bool)
    removed[1] = False

    filled = noisy_linear_imputation(images, removed, noise=0.0)

    assert torch.equal(filled[0], torch.zeros(3, 9, 11))
    assert torch.equal(filled[1], images[1])


def test_noise():
    images, removed = torch.zeros(2, 3, 60, 60), torch.zeros(2, 60, 60, dtype=torch.bool)
    removed[:, :, 1:] = True
    state = torch.get_rng_state()

    noisy = noisy_linear_imputation(images, removed, noise=0.5, random_seed=3)

    assert torch.equal(torch.get_rng_state(), state)
    assert noisy[:, :, :, 1:].std().item() == pytest.approx(0.5, rel=0.05)
    assert noisy[:, :, :, 1:].mean().item() == pytest.approx(0.0, abs=0.02)
    assert (noisy[:, :, :, 0] == 0).all()
    assert torch.equal(noisy[0], noisy[1])
    assert torch.equal(noisy, noisy_linear_imputation(images, removed, noise=0.5, random_seed=3))
    assert not torch.equal(
        noisy, noisy_linear_imputation(images, removed, noise=0.5, random_seed=4)
    )


def test_half_precision_keeps_its_type():
    images = random_images().half()
    removed = masks(9, 11)["block"].expand(2, 9, 11)

    filled = noisy_linear_imputation(images, removed, noise=0.0)

    assert filled.dtype == torch.float16
    expected = noisy_linear_imputation(images.float(), removed, noise=0.0)
    torch.testing.assert_close(filled, expected.half())


@pytest.mark.parametrize("order", ["MoRF", "LeRF"])
def test_curves_against_a_loop(order):
    model, images = net(9, 11), random_images()
    maps = random_images(seed=1).mean(1)
    fractions = (0.0, 0.2, 0.55, 0.9)

    curve = road(
        model, images, maps, TARGETS, order=order, fractions=fractions, noise=0.0, batch_size=3
    )

    expected = torch.zeros(2, 4)
    for row, (image, saliency) in enumerate(zip(images, maps, strict=True)):
        sequence = saliency.flatten().argsort(descending=order == "MoRF")
        for column, fraction in enumerate(fractions):
            removed = torch.zeros(99, dtype=torch.bool)
            removed[sequence[: round(fraction * 99)]] = True
            filled = solved(image.double().numpy(), removed.view(9, 11).numpy())
            logits = model(torch.tensor(filled).float()[None])[0]
            expected[row, column] = logits.softmax(0)[TARGETS[row]].detach()
    torch.testing.assert_close(curve.scores, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(curve.fractions, torch.tensor([0.0, 20.0, 54.0, 89.0]) / 99)


def test_curves_do_not_depend_on_the_batch():
    model, images = net(9, 11), random_images()
    maps = images.mean(1)

    together = road(model, images, maps, TARGETS, noise=0.3, batch_size=7).scores

    apart = [one.scores for one in one_by_one(road, model, images, maps, TARGETS, noise=0.3)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=0)


def test_a_uniform_image_has_nothing_to_remove():
    model, images = net(9, 11), torch.full((2, 3, 9, 11), 0.7)

    curve = road(model, images, random_images().mean(1), TARGETS, noise=0.0)

    expected = model(images).softmax(1)[range(2), TARGETS].detach()
    torch.testing.assert_close(curve.scores, expected[:, None].expand(2, 5))


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5), (0.9, 0.1), (-0.1,), (0.5, 1.1)])
def test_fractions_that_make_no_curve(fractions):
    with pytest.raises(ValueError, match=rf"^road: fractions are {re.escape(str(fractions))}\."):
        road(net(9, 11), random_images(), torch.rand(2, 9, 11), TARGETS, fractions=fractions)


def test_arguments_that_do_not_fit():
    images, removed = random_images(), torch.ones(2, 9, 11, dtype=torch.bool)

    with pytest.raises(ValueError, match=r"^road: noise is -1\."):
        road(net(9, 11), images, torch.rand(2, 9, 11), TARGETS, noise=-1)
    with pytest.raises(ValueError, match=r"^noisy_linear_imputation: noise is nan\."):
        noisy_linear_imputation(images, removed, noise=float("nan"))
    message = re.escape("images are (2, 3, 9, 11) of torch.float32 but removed is (2, 9, 10)")
    with pytest.raises(ShapeError, match=message):
        noisy_linear_imputation(images, removed[:, :, 1:])
    with pytest.raises(ShapeError, match=r"of torch\.uint8\. Pass floating"):
        noisy_linear_imputation(images, removed.to(torch.uint8))
    with pytest.raises(NonFiniteError, match=r"images holds NaN"):
        noisy_linear_imputation(images * torch.nan, removed)
    with pytest.raises(ShapeError, match=r"^road: maps are \(2, 9, 10\) but images are"):
        road(net(9, 11), images, torch.rand(2, 9, 10), TARGETS)


@pytest.mark.gpu
def test_cuda_equals_cpu():
    images, removed = random_images(2, 24, 33), masks(24, 33)["corner"].expand(2, 24, 33)

    filled = noisy_linear_imputation(images.cuda(), removed.cuda())

    assert filled.is_cuda
    expected = noisy_linear_imputation(images, removed)
    torch.testing.assert_close(filled.cpu(), expected, atol=1e-4, rtol=0)
