"""One photo, one picture; and which network is explained."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

from pipeline import command
from pipeline.base.config import ClassifierConfig, RunConfig
from pipeline.base.errors import ConfigError
from pipeline.commands import explain
from pipeline.commands.explained import library_model
from pipeline.data.images import read_image
from pipeline.networks.explained import fitted
from pipeline.run.run import Run
from pipeline.tasks.classifier import ClassifierTask
from tsgb.explain.classifier import Classifier
from tsgb.explain.images import read_photo


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
        "probability of goldfish", "probability of cock", "look at",
    ]  # fmt: skip
    assert "the method's own default is read instead" in capsys.readouterr().err.replace("\n", " ")
    assert "catalogue" not in run.__dict__


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": None}, r"explain\.image: not given.*Add explain\.image=PATH"),
        ({"output": "x.jpg"}, r"explain\.output: 'x\.jpg' does not end in \.png"),
        ({"model": "resnet50"}, r"explain\.model: 'resnet50' does not name a network"),
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

    with pytest.raises(
        ConfigError,
        match=r"explain\.classes: the network has no class 'circel'\. Similar are: circle\.",
    ):
        explain.run(run)


def test_words_mean_what_they_mean_to_the_command(run, tmp_path):
    run.settings.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")
    run.settings.explain.classes = ["circ", "1", "r"]

    explain.run(run)

    said = dict(run.terminal.lines)
    assert set(said) == {"probability of circle", "probability of square", "look at"}
    assert sum(value.endswith("(the most probable of 2 that 'r' fits)") for value in said.values())


def test_the_picture_is_drawn_by_the_library_at_the_size_of_the_network(run, tmp_path, photo):
    run.settings.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")
    run.settings.explain.classes = ["circle"]

    explain.run(run)

    drawn = decode((run.folder / "explain" / "photo.png").read_bytes())
    rgb = Image.fromarray(np.ascontiguousarray(photo[..., ::-1]))  # cv2 wrote BGR
    width, height = ClassifierConfig().size, 225  # sides of the form 32 k + 1
    view = np.asarray(rgb.resize((width, height), Image.Resampling.BILINEAR))
    assert drawn.shape[1] == 2 * (width + 8) + 8  # the grid of tsgb.draw: pixels and gaps of 8 px
    tops = range(len(drawn) - height)
    assert any(np.array_equal(drawn[y : y + height, 8 : 8 + width], view) for y in tops)


@pytest.fixture
def asked(monkeypatch):
    """The images of which a classifier is asked for its logits."""
    images, logits = [], Classifier.logits

    def recorded(self, batch):
        images.append(batch)
        return logits(self, batch)

    monkeypatch.setattr(Classifier, "logits", recorded)
    return images


def percents(text):
    return re.findall(r"(\d+\.\d) %", text)


def library_weights(path):
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    return str(path)


@pytest.mark.parametrize("kind", ["checkpoint", "library"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_command_and_the_stage_agree(run, tmp_path, photo, capsys, asked, kind, suffix):
    """The same photo, which EXIF turns, to the same network: the same probabilities and view."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(photo).resize((400, 300)).save(path, exif=exif)
    run.settings.explain.image = str(path)
    words = ["--method", "grad_cam", "--out", str(tmp_path / "command.png")]
    run.settings.saliency.method = {"_target_": "tsgb.GradCAM"}
    if kind == "checkpoint":
        weights = classifier_file(tmp_path / "last.ckpt")
        run.settings.explain.checkpoint = weights
    else:
        weights = library_weights(tmp_path / "weights.pth")
        words += ["--model", "squeezenet1_1"]
        run.settings.explain.model = "torchvision/squeezenet1_1"
        run.settings.explain.model_weights = weights

    explain.run(run)
    assert command.main(["explain", str(path), "--weights", weights, *words]) == 0

    said = percents(capsys.readouterr().out)
    assert said == percents(" ".join(value for _, value in run.terminal.lines))
    stage, by_command = asked
    assert stage.shape[2] > stage.shape[3]  # upright
    assert torch.equal(stage, by_command)


def grey_of_16_bits(_photo):
    return Image.fromarray((np.arange(12, dtype=np.uint16) * 5900).reshape(3, 4))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("jpg", Image.fromarray),
        ("png", Image.fromarray),
        ("png", lambda photo: Image.fromarray(photo).convert("L")),
        ("png", lambda photo: Image.fromarray(photo).convert("P")),
        ("png", lambda photo: Image.fromarray(photo).convert("RGBA")),
        ("png", grey_of_16_bits),
        ("webp", Image.fromarray),
    ],
    ids=["jpeg", "png", "grey", "palette", "alpha", "16-bit", "webp"],
)
def test_the_library_reads_photos_as_the_pipeline_does(tmp_path, photo, suffix, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    kind(photo).save(path, exif=exif)

    here, there = np.asarray(read_photo(path).image), read_image(path)

    assert here.shape == there.shape
    assert np.abs(here.astype(int) - there).max() <= (2 if suffix == "jpg" else 0)  # two decoders


def test_the_command_refuses_a_checkpoint_of_another_network(tmp_path, capsys):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    weights = classifier_file(tmp_path / "last.ckpt")
    words = ["explain", str(tmp_path / "a.png"), "--weights", weights, "--model", "resnet18"]

    assert command.main(words) == 1
    assert "is a checkpoint of timm/resnet10t. Leave --model out" in capsys.readouterr().err


def test_the_command_says_what_a_checkpoint_needs(tmp_path, capsys, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    weights = classifier_file(tmp_path / "last.ckpt")
    monkeypatch.setattr(command, "_missing_packages", lambda: ["hydra-core"])

    assert command.main(["explain", str(tmp_path / "a.png"), "--weights", weights]) == 1
    assert re.search(
        r"--weights: '.*last\.ckpt' is a checkpoint that `tsgb run` trained\. .*'pipeline' is "
        r"needed \(hydra-core are missing\): pip install 'tsgb\[pipeline\]'",
        capsys.readouterr().err,
    )


def test_the_command_refuses_the_checkpoint_of_a_segmenter(tmp_path, capsys):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    about = {"settings": {"encoder": "resnet18"}, "classes": ["circle"]}
    torch.save({"hyper_parameters": about, "state_dict": {}}, tmp_path / "last.ckpt")

    assert command.main(["explain", f"{tmp_path}/a.png", "--weights", f"{tmp_path}/last.ckpt"]) == 1
    assert capsys.readouterr().err.startswith("tsgb: --weights: ")


def test_photos_of_16_bits_are_scaled_and_named_if_they_are_dark(run, tmp_path, capsys, asked):
    run.settings.explain.checkpoint = classifier_file(tmp_path / "last.ckpt")
    values = np.arange(5400, dtype=np.uint16).reshape(60, 90) % 4096
    Image.fromarray(values).save(tmp_path / "photo.png")

    explain.run(run)

    assert "no value above 4095 of 65535" in capsys.readouterr().err.replace("\n", " ")
    range_of_red = asked[0][0, 0].max() - asked[0][0, 0].min()
    assert 14 <= float(range_of_red) * 0.229 * 255 <= 15  # of 4095 // 256


def test_a_photo_that_is_too_large_or_missing_is_a_setting(run, tmp_path):
    run.settings.data["max_megapixels"] = 0.005
    with pytest.raises(ConfigError, match=r"explain\.image: .* 90 x 60 pix.* See data\.max_mega"):
        explain.run(run)
    run.settings.explain.image = str(tmp_path / "nowhere.png")
    with pytest.raises(ConfigError, match=r"explain\.image: there is no file"):
        explain.run(run)


def test_a_network_sees_colours_on_the_scale_on_which_it_was_trained(run, tmp_path, monkeypatch):
    """This network of timm wants values from -1 to 1, for probabilities and for maps."""
    seen, forward = [], timm.models.MobileNetV3.forward
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((60, 90, 3), 255, np.uint8))

    def recorded(self, images):
        seen.extend(images.detach().aminmax())
        return forward(self, images)

    monkeypatch.setattr(timm.models.MobileNetV3, "forward", recorded)
    run.settings.explain.model = "timm/tf_mobilenetv3_small_minimal_100"
    run.settings.explain.model_weights = "none"
    run.settings.explain.classes = ["tabby"]
    run.settings.saliency.method = {"_target_": "tsgb.GradCAM"}
    run.settings.saliency.scales = [1.0]

    explain.run(run)

    assert seen
    assert torch.stack(seen).tolist() == pytest.approx([1.0] * len(seen), abs=1e-5)


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
