"""One photo, one picture; and which network is explained."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pipeline.base.config import ClassifierConfig, RunConfig
from pipeline.base.errors import ConfigError
from pipeline.commands import explain
from pipeline.commands.explained import colours_of, fitted, library_model
from pipeline.networks.pixels import normalise_colours
from pipeline.run.run import Run
from pipeline.tasks.classifier import ClassifierTask


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def decode(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


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
    run.settings.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")

    explain.run(run)

    assert decode((run.folder / "explain" / "photo.png").read_bytes()).ndim == 3
    said = dict(run.terminal.lines)
    assert {"probability of circle", "probability of square"} < set(said)
    assert "catalogue" not in run.__dict__


def test_explain_a_library_model_without_any_data(run, tmp_path, capsys):
    run.settings.saliency.flip = True
    run.settings.explain.model = "timm/resnet10t"
    run.settings.explain.model_weights = "none"
    run.settings.explain.classes = ["Goldfish", "7"]
    run.settings.explain.output = str(tmp_path / "fish.png")

    explain.run(run)

    assert (tmp_path / "fish.png").exists()
    assert [name for name, _ in run.terminal.lines] == [
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
        setattr(run.settings.explain, name, value)

    with pytest.raises(ConfigError, match=message):
        explain.run(run)


def test_explain_offers_classes_of_similar_names(run, tmp_path):
    run.settings.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")
    run.settings.explain.classes = ["circel"]

    with pytest.raises(ConfigError, match=r"no class 'circel' among its 2. Similar are: circle\."):
        explain.run(run)


def test_colours_of_a_network_with_other_statistics():
    change = colours_of({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    images = torch.tensor([0.0, 255.0]).expand(1, 3, 1, 2)

    changed = change(normalise_colours(images))

    expected = torch.tensor([-1.0, 1.0]).expand(1, 3, 1, 2)
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model", "layer", "expected"),
    [
        ("torchvision/mobilenet_v2", "backbone.13", "features.13"),
        ("torchvision/mobilenet_v2", "features.3", "features.3"),
        ("torchvision/mobilenet_v2", "backbone.99", None),
        ("torchvision/squeezenet1_0", "backbone.3", None),  # another network than was cut
    ],
)
def test_layers_of_the_cut_network_have_names_in_the_whole_one(run, model, layer, expected):
    explained = library_model(run, model, "none", "explain")
    settings = {"_target_": "x", "layer": layer, "base": {"layer": layer}, "other": {"layer": None}}

    found = fitted(settings, explained)

    assert found == {
        "_target_": "x", "layer": expected, "base": {"layer": expected}, "other": {"layer": None},
    }  # fmt: skip
