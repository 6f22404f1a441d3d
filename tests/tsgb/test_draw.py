import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from tsgb import NonFiniteError, ShapeError, draw
from tsgb.draw import MissingPackageError, colours, grid, overlay, save

BLACK, YELLOW = (6, 6, 20), (255, 252, 222)  # ends of the unsigned colours
BLUE, GREY, RED = (8, 48, 107), (244, 244, 244), (110, 20, 20)


def lightness(picture):
    """CIE L* of sRGB, from its definition."""
    shares = picture / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def picture(height=4, width=6):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("saliency", "expected"),
    [
        pytest.param([[0.0, 7.0]], [BLACK, YELLOW], id="zero-and-maximum"),
        pytest.param([[0.0, 1.0, 7.0]], [BLACK, (45, 18, 88), YELLOW], id="second-control-point"),
        pytest.param([[-2.0, 0.0, 2.0]], [BLUE, GREY, RED], id="signed"),
        pytest.param([[-3.0, 0.0, 1.0]], [BLUE, GREY, (240, 160, 110)], id="one-scale-for-both"),
        pytest.param([[0.0, 0.0]], [BLACK, BLACK], id="zeros"),
        pytest.param([[3.0, 3.0]], [YELLOW, YELLOW], id="positive-constant"),
        pytest.param([[-3.0, -3.0]], [BLUE, BLUE], id="negative-constant"),
    ],
)
def test_colours_by_hand(saliency, expected):
    assert [tuple(pixel) for pixel in colours(torch.tensor(saliency))[0].tolist()] == expected


def test_signs_can_be_chosen():
    saliency = np.array([[-1.0, 0.0, 1.0]])

    assert colours(saliency, signed=False)[0].tolist() == [list(BLACK), list(BLACK), list(YELLOW)]
    assert colours(abs(saliency), signed=True)[0, 1].tolist() == list(GREY)


def test_the_maximum_can_be_chosen():
    saliency = torch.tensor([[0.0, 1.0, 2.0]])

    assert colours(saliency, maximum=7)[0, 1].tolist() == [45, 18, 88]  # second control point
    assert colours(saliency, maximum=1)[0, 1:].tolist() == [list(YELLOW)] * 2
    assert colours(-saliency, maximum=1)[0, 1:].tolist() == [list(BLUE)] * 2
    with pytest.raises(ValueError, match=r"^colours: maximum must be above 0, got 0\."):
        colours(saliency, maximum=0)


def test_unsigned_colours_grow_steadily_lighter():
    steps = np.diff(lightness(colours(torch.arange(256.0)[None], smoothing=0))[0])

    assert steps.min() > 0
    assert steps.max() < 2 * steps.mean()


def test_signed_colours_are_lightest_in_the_middle_and_alike_in_lightness_on_both_sides():
    light = lightness(colours(torch.arange(-128.0, 129.0)[None], smoothing=0))[0]

    assert (np.diff(light[:129]) > 0).all()
    assert (np.diff(light[128:]) < 0).all()
    assert abs(light - light[::-1]).max() < 5


def test_neither_scale_nor_type_matters():
    saliency = torch.arange(-20, 15).view(5, 7)
    expected = colours(saliency).astype(int)

    for other in (saliency * 1e-30, saliency.double() * 1e300, saliency.numpy(), saliency.half()):
        assert abs(colours(other) - expected).max() <= 1  # rounding


def lattice():
    """An object of 40 x 40 pixels in an image of 100 x 100, found as dots 4 pixels apart."""
    saliency = torch.zeros(100, 100)
    saliency[30:70:4, 30:70:4] = 1
    return saliency


def test_an_object_that_is_found_as_a_lattice_of_dots_is_seen():
    black = np.zeros((100, 100, 3), np.uint8)

    shown, raw = overlay(black, lattice()), overlay(black, lattice(), smoothing=0)

    assert (shown[34:64, 34:64].max(-1) > 100).all()
    assert not shown[:20].any()
    assert (raw.max(-1) > 0).sum() == 100  # the dots


def test_smoothing_is_a_gaussian_of_the_longer_side():
    saliency = torch.zeros(60, 100)
    saliency[30, 50] = 1

    drawn = draw._smoothed("", saliency.double(), 0.02)

    across = torch.arange(-3.0, 4.0, dtype=torch.float64)
    expected = (-across.square() / 8).exp()  # a deviation of 2 pixels
    torch.testing.assert_close(drawn[30, 47:54] / drawn[30, 50], expected)
    torch.testing.assert_close(drawn[27:34, 50] / drawn[30, 50], expected)
    assert float(drawn.sum()) == pytest.approx(1)


def test_smoothing_keeps_a_constant_and_the_map_that_is_drawn():
    saliency = torch.full((50, 40), 3.0)
    dots = lattice()

    assert (colours(saliency) == YELLOW).all()
    colours(dots)
    overlay(np.zeros((100, 100, 3), np.uint8), dots)
    assert torch.equal(dots, lattice())


def test_small_maps_and_maps_without_smoothing_are_drawn_as_they_are():
    small = torch.rand(12, 12, generator=torch.Generator().manual_seed(0))

    np.testing.assert_array_equal(colours(small), colours(small, smoothing=0))
    assert (colours(lattice(), smoothing=0) == YELLOW).all(-1).sum() == 100


def test_signed_maps_are_smoothed_with_their_signs():
    saliency = torch.zeros(100, 100)
    saliency[:, ::2], saliency[:, 1::2] = 1, -1
    saliency[40:60, 40:60] = 1

    drawn = colours(saliency)

    assert (drawn[50, 50] == RED).all()
    assert abs(drawn[5:20, 5:95].astype(int) - GREY).max() < 10  # what cancels is grey


def test_stretching_is_bilinear():
    wide = colours(torch.tensor([[0.0, 1.0]]), size=(3, 4))

    np.testing.assert_array_equal(wide, colours(torch.tensor([[0.0, 0.25, 0.75, 1.0]] * 3)))


def test_overlay_by_hand():
    image = np.full((1, 3, 3), 100, np.uint8)

    shown = overlay(image, torch.tensor([[-9.0, 1.0, 7.0]]), strength=0.5)

    # The second control point, (45, 18, 88), at an opacity of 0.5 / 7.
    assert shown[0].tolist() == [[100, 100, 100], [96, 94, 99], [178, 176, 161]]


def test_the_strongest_saliency_is_opaque():
    shown = overlay(picture(1, 2), torch.tensor([[0.0, 1e-9]]))

    assert shown[0].tolist() == [picture(1, 2)[0, 0].tolist(), list(YELLOW)]


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_no_positive_saliency_leaves_the_image(value):
    np.testing.assert_array_equal(overlay(picture(), torch.full((2, 3), value)), picture())


def test_a_map_of_another_size_is_stretched_over_the_image():
    saliency = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    black = np.zeros((12, 9, 3), np.uint8)
    large = torch.nn.functional.interpolate(saliency[None, None], (12, 9), mode="bilinear")[0, 0]

    assert abs(overlay(black, saliency).astype(int) - overlay(black, large)).max() <= 1
    assert overlay(black, saliency).any()


@pytest.mark.parametrize("draw", [colours, lambda saliency: overlay(picture(), saliency)])
@pytest.mark.parametrize(
    ("saliency", "error", "message"),
    [
        (torch.rand(1, 2, 3), ShapeError, r"the map has shape \(1, 2, 3\) and type torch.float32"),
        (np.zeros((0, 3)), ShapeError, r"the map has shape \(0, 3\)"),
        (torch.ones(2, 2, dtype=torch.complex64), ShapeError, "complex64, expected real"),
        (torch.tensor([[1.0, torch.nan]]), NonFiniteError, "the map holds NaN or infinity"),
        (torch.tensor([[1.0, torch.inf]]), NonFiniteError, "the map holds NaN or infinity"),
    ],
)
def test_maps_that_are_none(draw, saliency, error, message):
    with pytest.raises(error, match=message):
        draw(saliency)


@pytest.mark.parametrize(
    "wrong", [picture().astype(float), picture()[..., 0], picture()[..., :2], picture()[:0], [[1]]]
)
@pytest.mark.parametrize(
    "use",
    [
        lambda wrong, _: overlay(wrong, torch.ones(2, 2)),
        lambda wrong, _: grid([("", wrong)]),
        lambda wrong, folder: save(folder / "map.png", wrong),
    ],
)
def test_pictures_that_are_none(use, wrong, tmp_path):
    with pytest.raises(ShapeError, match=r"a picture has shape .* expected a numpy array of uint8"):
        use(wrong, tmp_path)


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match=r"^overlay: strength must be in \[0, 1\], got 1\.5\."):
        overlay(picture(), torch.ones(2, 2), strength=1.5)
    with pytest.raises(ShapeError, match=r"^colours: height and width must be .*, got 0 x 4"):
        colours(torch.ones(2, 2), size=(0, 4))


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, float("nan")])
def test_smoothing_is_a_share(smoothing):
    for draw_map in (colours, partial(overlay, picture())):
        with pytest.raises(ValueError, match=rf"smoothing must be in \[0, 1\], got {smoothing}"):
            draw_map(torch.ones(2, 3), smoothing=smoothing)
    with pytest.raises(ShapeError, match=r"^grid: there are no pictures\."):
        grid([])
    with pytest.raises(ValueError, match=r"^grid: columns must be at least 1, got 0\."):
        grid([("", picture())], columns=0)


def test_pictures_come_through_the_grid_unchanged():
    large, small = picture(40, 130), picture(20, 10)

    drawn = grid([("", large), ("", small), ("", large)], columns=2)

    assert drawn.shape == (8 + 40 + 8 + 40 + 8, 8 + 130 + 8 + 130 + 8, 3)
    np.testing.assert_array_equal(drawn[8:48, 8:138], large)
    np.testing.assert_array_equal(drawn[8:28, 146 + 60 : 146 + 70], small)
    np.testing.assert_array_equal(drawn[56:96, 8:138], large)
    assert (drawn[56:, 146:] == 255).all()


def test_captions_are_written_over_their_own_picture():
    black = np.zeros((30, 200, 3), np.uint8)

    drawn = grid([("$a_b and", black), ("", black)], title="two")

    below_title = drawn.shape[0] - 8 - 30
    assert (drawn[below_title:-8, 8:208] == 0).all()
    caption = drawn[below_title - 20 : below_title]
    assert (caption[:, :208] < 128).any()
    assert (caption[:, 208:] == 255).all()


def test_long_captions_are_wrapped():
    short, long = (grid([(text, picture())]) for text in ("a word", "a word " * 12))

    assert long.shape[0] > short.shape[0] + 20
    assert long.shape[1] == short.shape[1]


def test_saved_pictures_come_back(tmp_path):
    path = tmp_path / "new" / "map.png"

    save(path, picture()[:, ::-1])

    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture()[:, ::-1])


@pytest.mark.parametrize("name", ["map", "map.text"])
def test_endings_that_are_no_pictures(name, tmp_path):
    with pytest.raises(ValueError, match=rf"^save: '{name}' does not end like a picture"):
        save(tmp_path / name, picture())


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("PIL.Image", lambda folder: save(folder / "map.png", picture())),
        ("matplotlib.figure", lambda _: grid([("words", picture())])),
    ],
)
def test_missing_packages_are_named_with_the_remedy(module, use, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(MissingPackageError, match=r"is not installed.*pip install -e '\.\[draw\]'"):
        use(tmp_path)
    assert grid([("", picture())]).shape == (20, 136, 3)  # nothing to write, nothing needed
