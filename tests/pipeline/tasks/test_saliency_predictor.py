"""From an image to maps in [0, 1]: sizes, scales, the mirror and the smoothing."""

import pytest
import torch

from pipeline.networks.colours import IMAGENET
from pipeline.networks.pixels import pad_to_multiple, scaled_size
from pipeline.tasks.saliency_predictor import SaliencyPredictor, smooth


class Brightness:
    """A method whose map of class k is k + 1 times the brightness, halved in size."""

    def __init__(self):
        self.calls = []

    def attribute(self, images, targets):
        self.calls.append(tuple(images.shape))
        grey = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 3, 2, 1)
        return grey * (targets[:, :, None, None] + 1)


def predictor(method, **options):
    settings = {"size": 65, "scales": [1.0], "flip": False, "normalise": IMAGENET.normalise}
    settings |= options
    return SaliencyPredictor(torch.nn.Identity(), method, **settings)


def image_with_a_bright_corner():
    image = torch.zeros(1, 3, 60, 90, dtype=torch.uint8)
    image[..., 10:30, 10:30] = 255
    return image


def test_maps_are_a_quarter_of_the_image_with_maximum_one():
    maps = predictor(Brightness()).predict_step(
        (image_with_a_bright_corner(), torch.tensor([[0, 4]])), 0
    )

    assert maps.shape == (2, 15, 23)
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(2))
    assert maps.min() == 0
    peak = maps[0].argmax().item()
    assert (2, 2) <= divmod(peak, 23) <= (7, 7)


def test_the_method_is_called_once_per_scale_with_flip():
    method = Brightness()
    batch = (image_with_a_bright_corner(), torch.tensor([[0, 1, 2]]))

    predictor(method, scales=[0.5, 1.0, 2.0], flip=True).predict_step(batch, 0)

    assert method.calls == [(2, 3, 33, 33), (2, 3, 33, 65), (2, 3, 97, 129)]


def test_maps_of_the_mirrored_image_are_mirrored_back():
    batch = (image_with_a_bright_corner(), torch.tensor([[0]]))

    straight = predictor(Brightness()).predict_step(batch, 0)
    both = predictor(Brightness(), flip=True).predict_step(batch, 0)

    torch.testing.assert_close(straight, both, atol=0.02, rtol=0)


class Corners:
    """A left corner of height 1 in an image, a right one of height 10 in its mirror image.

    With ``size`` it answers for larger images by another corner, which is ten times as high.
    """

    def attribute(self, images, targets):
        maps = torch.zeros(len(images), targets.shape[1], 16, 16)
        high = 1.0 if images.shape[-1] < 60 else 10.0
        place = 0 if images.shape[-1] < 60 else 12
        maps[0, :, :4, place : place + 4] = high
        if len(images) == 2:
            maps[1, :, 12:, :4] = 100 * high  # back in the mirror: at the right, below
        return maps


def square(**options):
    batch = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.tensor([[0]])
    return predictor(Corners(), **options).predict_step(batch, 0)[0]


def test_every_scale_weighs_the_same_whatever_the_height_of_its_maps():
    found = square(scales=[0.5, 1.0])

    assert found[0, 0] == pytest.approx(1)
    assert found[0, -1] == pytest.approx(1)
    assert found[-1].sum() == 0


def test_the_mirrored_map_weighs_the_same_and_is_mirrored_back():
    found = square(scales=[0.5], flip=True)

    assert found[0, 0] == pytest.approx(1)
    assert found[-1, -1] == pytest.approx(1)
    assert found[-1, 0] == found[0, -1] == 0


def test_maps_are_smoothed():
    class Alternating:
        def attribute(self, images, targets):
            columns = torch.arange(16).expand(len(images), targets.shape[1], 16, 16)
            return 1.0 - (columns % 2)

    batch = torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.tensor([[0]])
    found = predictor(Alternating()).predict_step(batch, 0)[0]

    torch.testing.assert_close(found[:, 2:-2] / found[8, 8], torch.ones(16, 12))


def test_an_image_without_classes_has_no_maps_and_one_without_pixels_no_result():
    task = predictor(Brightness())
    none = torch.zeros(1, 0, dtype=torch.int64)

    assert task.predict_step((image_with_a_bright_corner(), none), 0).shape == (0, 15, 23)
    failure = task.predict_step((torch.zeros(1, 3, 0, 0), torch.tensor([[0]])), 0)
    assert str(failure) == "cannot be read any more"


def test_a_map_without_positive_values_stays_zero_not_nan():
    class Negative:
        def attribute(self, images, targets):
            return -torch.ones(len(images), targets.shape[1], 8, 8)

    maps = predictor(Negative()).predict_step(
        (image_with_a_bright_corner(), torch.tensor([[0]])), 0
    )

    assert maps.abs().sum() == 0


def test_smoothing_removes_alternation_and_keeps_constants():
    columns = torch.arange(8).expand(8, 8)
    flat = torch.full((1, 1, 8, 8), 3.0)
    alternating = (1.0 - 2 * (columns % 2)).view(1, 1, 8, 8)

    torch.testing.assert_close(smooth(flat), flat)
    assert smooth(alternating)[..., 1:-1].abs().max() < 1e-6
    torch.testing.assert_close(smooth(flat + alternating)[..., 1:-1], flat[..., 1:-1])


@pytest.mark.parametrize(
    ("height", "width", "longer", "expected"),
    [(375, 500, 321, (225, 321)), (500, 375, 513, (513, 385)), (10, 10, 5, (33, 33))],
)
def test_sizes_keep_the_aspect_ratio_in_steps_of_32(height, width, longer, expected):
    assert scaled_size(height, width, longer) == expected


def test_padding_replicates_the_border():
    padded = pad_to_multiple(torch.arange(6.0).view(1, 1, 2, 3), 4)

    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, 3].tolist() == [3.0, 4.0, 5.0, 5.0]


def test_where_memory_is_short_the_mirrored_image_comes_after_the_other():
    class Hungry(Brightness):
        def attribute(self, images, targets):
            maps = super().attribute(images, targets)
            if len(images) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return maps

    batch, method = (image_with_a_bright_corner(), torch.tensor([[0, 4]])), Hungry()

    found = predictor(method, flip=True).predict_step(batch, 0)

    torch.testing.assert_close(found, predictor(Brightness(), flip=True).predict_step(batch, 0))
    assert [shape[0] for shape in method.calls] == [2, 1, 1]
