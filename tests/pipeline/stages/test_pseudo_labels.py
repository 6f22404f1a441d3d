"""Which settings of the seed are refused, and that each of them reaches the label images."""

import numpy as np
import pytest
from PIL import Image

from pipeline.base.config import SeedConfig
from pipeline.base.errors import ConfigError
from pipeline.data.catalogue import VOID, Item
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image
from pipeline.masks.refine import NoRefinement
from pipeline.masks.seed import compete, normalise
from pipeline.networks.colours import IMAGENET
from pipeline.networks.features import NetworkFeatures
from pipeline.run.checks import check_thresholds
from pipeline.stages import pseudo_labels
from pipeline.stages.label_images import KINDS, mask_path
from pipeline.stages.maps import map_path, read_maps
from pipeline.stages.seed_maps import SeedMaps, seed_maps
from pipeline.stages.trained import load_classifier
from tests.pipeline.runs import check, do, job, with_settings

MAPS = np.array([[[1.0, 0.36, 0.09, 0.0]] * 4, [[0.5, 0.25, 1.0, 0.04]] * 4], np.float32)


@pytest.fixture
def made(tmp_path):
    """The three label images of one photo with ``MAPS``, by kind, for settings of the seed."""
    photo = tmp_path / "photo.png"
    Image.effect_noise((4, 4), 90).convert("RGB").save(photo)
    item = Item("photo", photo, (0, 2))
    path = map_path(tmp_path, item)
    path.parent.mkdir()
    np.savez(path, maps=MAPS, classes=item.labels)

    def make(refine=None, logits=None, **settings):
        seed = SeedConfig(**settings)
        maps = SeedMaps(tmp_path, seed, logits)
        pseudo_labels._Maker(tmp_path, maps, refine or NoRefinement()).make(item)
        kinds = {kind: mask_path(tmp_path, kind, item) for kind in KINDS}
        return {kind: read_label_image(path) for kind, path in kinds.items()}

    return make


def test_the_levels_by_hand(made):
    labels = made(threshold=0.55, foreground=0.7, background=0.4)

    assert labels["seeds"][0].tolist() == [1, 1, 3, 0]
    assert labels["refined"][0].tolist() == [1, 1, 3, 0]
    assert labels["masks"][0].tolist() == [1, VOID, 3, 0]


def test_the_plane_changes_what_is_refined_and_not_the_seed(made):
    seen = []

    def refine(_image, probabilities):
        seen.append(probabilities[-1][:, 0, 0].tolist())  # of the higher level, 0.5
        return probabilities

    constant, power = made(refine), made(refine, plane="power")

    np.testing.assert_array_equal(constant["seeds"], power["seeds"])
    assert seen[0] == pytest.approx([0.227, 0.453, 0.320], abs=1e-3)  # 0.5, 1, root 0.5
    assert seen[1] == pytest.approx([0, 0.586, 0.414], abs=1e-3)


def test_classes_compete_before_the_root(made):
    """At the last column the classifier is for the second class, elsewhere for the first."""
    logits = np.zeros((2, 4, 4), np.float32)
    logits[0], logits[1, :, 3] = 9, 99

    images = made(logits=lambda _item: logits, competition=1.0)

    # of the maps as they are, the second is above the first and the level in the third column
    assert images["seeds"][0].tolist() == [1, 1, 0, 0]
    assert made()["seeds"][0].tolist() == [1, 1, 3, 0]


def test_the_logits_are_the_classifiers_for_the_labels(copied):
    run = with_settings(copied, seed={"competition": 3.0})
    item = next(item for item in run.data.train.items if len(item.labels) > 1)

    maps = seed_maps(job(run, "pseudo_labels"))

    size = run.settings.saliency.size * max(run.settings.saliency.scales)
    reader = NetworkFeatures(load_classifier(run.stage("classifier").path).network, IMAGENET)
    logits = reader.logits(read_image(item.image), size)[list(item.labels)]
    stored = normalise(read_maps(run.stage("saliency").path, item))
    expected = compete(stored, logits, 3.0) ** run.settings.seed.power
    np.testing.assert_allclose(maps.read(item), expected, atol=1e-5)
    assert run.stage("pseudo_labels").path != copied.stage("pseudo_labels").path


def test_classes_compete_at_the_finest_scale_of_the_maps(copied):
    seen = []

    class Network:
        def logits(self, _image, size):
            seen.append(size)
            return np.zeros((len(copied.data.classes), 1, 1), np.float32)

    run = with_settings(copied, seed={"competition": 3.0}, saliency={"scales": [0.5, 2.0, 1.0]})
    item = run.data.train.items[0]

    maps = seed_maps(job(run, "pseudo_labels"), Network)

    assert maps.logits(item).shape == (len(item.labels), 1, 1)
    assert seen == [2 * run.settings.saliency.size]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"foreground": 0.3}, "foreground=0.3 are not in order"),
        ({"background": 0.0}, "background=0.0, threshold=0.5"),
        ({"competition": -1.0}, r"compete: temperature is -1\.0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_thresholds(SeedConfig(**settings))


def test_an_unknown_class_to_score_is_refused_before_any_work(copied):
    with pytest.raises(ConfigError, match=r"evaluate\.classes: catt not among the classes"):
        check(with_settings(copied, evaluate={"classes": ["catt"]}), "pseudo_labels")


def test_means_over_the_chosen_classes_have_a_line_of_their_own(copied):
    first, second, *_ = copied.data.classes
    run = with_settings(copied, evaluate={"classes": [first, second]})

    done = do(run, "pseudo_labels")

    iou = done.summary["scores"]["refined"]["IoU"]
    mean = (iou["background"] + iou[first] + iou[second]) / 3
    line = dict(run.terminal.lines)[f"  over background, {first}, {second}"]
    assert f"refined {mean:.3f}" in line
    assert line.startswith("seed ")
    assert "training masks " in line
