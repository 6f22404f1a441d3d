"""Pictures, and the stage that makes one of a single photo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pipeline.config import ClassifierConfig, RunConfig
from pipeline.data.palette import PALETTE
from pipeline.errors import ConfigError
from pipeline.report import pictures
from pipeline.stages import explain
from pipeline.stages.context import Run
from pipeline.tasks.classifier import ClassifierTask


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def decode(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((440, 600), (220, 300), id="as-high-as-allowed"),
        pytest.param((100, 4000), (10, 400), id="as-wide-as-allowed"),
        pytest.param((50, 60), (100, 120), id="small-is-doubled"),
        pytest.param((1, 4000), (1, 400), id="never-without-pixels"),
    ],
)
def test_thumbnail_size(size, expected):
    assert pictures.thumbnail(np.zeros((*size, 3), np.uint8)).shape[:2] == expected


def test_overlay_map_leaves_zero_grey_and_lights_up_the_maximum(photo):
    saliency = np.zeros((6, 9), np.float32)
    saliency[:, 6:] = 1

    picture = pictures.overlay_map(photo, saliency).astype(int)

    plain = pictures.overlay_map(photo, np.zeros((2, 2))).astype(int)
    assert np.array_equal(picture[:, :40], plain[:, :40])
    assert picture[:, 75:].sum(-1).mean() > plain[:, 75:].sum(-1).mean() + 100


def test_coloured_map_is_brighter_where_the_map_is_higher():
    colours = pictures.coloured_map(np.linspace(0, 1, 20)[None]).astype(int)

    brightness = colours[0].sum(-1)

    assert brightness[0] < 10
    assert (np.diff(brightness) > 0).all()


def test_overlay_labels_shows_class_colours_and_stripes():
    image = np.full((40, 40, 3), 128, np.uint8)
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 10:20], labels[:, 30:] = 15, 255

    picture = pictures.overlay_labels(image, labels)

    person = picture[20, 15].astype(int) - picture[20, 5]
    assert np.argmax(person) == np.argmax(PALETTE[15])
    assert len(np.unique(picture[:, 35:].reshape(-1, 3), axis=0)) == 2  # light and dark stripe
    assert (picture[:, 10] == 255).all()  # outline of the object
    assert len(np.unique(picture[:, 22:30].reshape(-1, 3), axis=0)) == 1  # plain background


def test_overlay_labels_takes_label_images_of_another_size(photo):
    assert pictures.overlay_labels(photo, np.ones((7, 5), np.uint8)).shape == photo.shape


def test_encode_jpeg_keeps_the_order_of_colours():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255

    assert decode(pictures.encode_jpeg(red))[8, 8].argmax() == 0


@pytest.mark.parametrize("size", [(60, 90), (90, 20)])
def test_explain_picture_has_a_column_for_each_class(size):
    image = np.full((*size, 3), 200, np.uint8)
    maps = np.random.default_rng(1).random((3, 8, 8))

    one = decode(pictures.explain_picture(image, maps[:1], ["a"]))
    three = decode(pictures.explain_picture(image, maps, ["a $x", "b_{", "c\n5 %"], "title $"))

    assert three.shape[1] > one.shape[1]
    assert three.shape[0] == one.shape[0]


def classifier_file(path):
    torch.manual_seed(0)
    config = ClassifierConfig(library="timm", backbone="resnet10t", middle_layer="backbone.layer3")
    task = ClassifierTask.from_config(config, ("circle", "square"))
    torch.save(
        {"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()},
        path,
    )
    return str(path)


@pytest.fixture
def run(tmp_path, photo):
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    config = RunConfig()
    config.saliency.method = {"_target_": "tsgb.TSGB", "layer": config.classifier.middle_layer}
    config.saliency.size = 64
    config.explain.image = str(tmp_path / "photo.png")
    return Run(config, tmp_path / "run")


def test_explain_a_checkpoint_at_its_own_layer(run, tmp_path):
    run.config.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")

    explain.run(run)

    assert decode((run.folder / "explain" / "photo.png").read_bytes()).ndim == 3
    said = dict(run.lines)
    assert {"probability of circle", "probability of square"} < set(said)
    assert "catalogue" not in run.__dict__


def test_explain_a_library_model_without_any_data(run, tmp_path, capsys):
    run.config.saliency.flip = True
    run.config.explain.model = "timm/resnet10t"
    run.config.explain.model_weights = "none"
    run.config.explain.classes = ["Goldfish", "7"]
    run.config.explain.output = str(tmp_path / "fish.png")

    explain.run(run)

    assert (tmp_path / "fish.png").exists()
    assert [name for name, _ in run.lines] == [
        "probability of goldfish", "probability of cock", "picture",
    ]  # fmt: skip
    assert "the method's own default is read instead" in capsys.readouterr().err.replace("\n", " ")
    assert "catalogue" not in run.__dict__


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": None}, r"explain\.image: not given.*Add explain\.image=PATH"),
        ({"output": "x.jpg"}, r"explain\.output: 'x\.jpg' does not end in \.png"),
        ({"model": "resnet50"}, r"explain\.model: 'resnet50' names no network"),
        ({"model": "elsewhere/resnet50"}, r"Give torchvision/NAME or timm/NAME"),
        ({"checkpoint": "nowhere.ckpt"}, r"explain\.checkpoint: no file 'nowhere\.ckpt'"),
    ],
)
def test_explain_refuses(run, settings, message):
    for name, value in settings.items():
        setattr(run.config.explain, name, value)

    with pytest.raises(ConfigError, match=message):
        explain.run(run)


def test_explain_offers_classes_of_similar_names(run, tmp_path):
    run.config.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")
    run.config.explain.classes = ["circel"]

    with pytest.raises(ConfigError, match=r"no class 'circel' among its 2. Similar are: circle\."):
        explain.run(run)


def test_colours_of_a_network_with_other_statistics():
    change = explain._colours_of({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    images = torch.tensor([0.0, 255.0]).expand(1, 3, 1, 2)

    changed = change(explain.normalise_colours(images))

    expected = torch.tensor([-1.0, 1.0]).expand(1, 3, 1, 2)
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)
