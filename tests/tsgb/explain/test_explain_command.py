"""The command ``tsgb``."""

import argparse
import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import tsgb
from tsgb.explain.classifier import library_classifier
from tsgb.explain.command import add_commands, execute, main
from tsgb.index import methods


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image, a file that is none, and the weights of a small network."""
    folder = tmp_path_factory.mktemp("command")
    colours = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(colours).resize((100, 80)).save(folder / "image.png")
    (folder / "text.png").write_text("no image")
    (folder / "text.pth").write_text("no weights")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pth")
    torch.save({"weight": torch.ones(2)}, folder / "other.pth")
    return folder


@pytest.fixture
def explain(folder, tmp_path, monkeypatch):
    """Run the command in the folder; its words can be followed by others that win."""
    monkeypatch.chdir(folder)

    def run(*words, image="image.png"):
        usual = ("--model", "resnet18", "--weights", "resnet18.pth", "--size", "64")
        return main(["explain", image, *usual, "--out", str(tmp_path / "map.png"), *words])

    return run


def test_the_table_has_a_line_for_every_method(capsys):
    assert main(["methods"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == sorted(methods())
    for row in rows:
        method = methods()[row[0]]
        assert row[1] == method.__name__
        assert " ".join(row[2:]).startswith(method.facts.read_out)


def test_another_program_can_offer_the_commands_beside_its_own(capsys):
    parser = argparse.ArgumentParser(prog="other")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("run").set_defaults(answer=lambda _: "ran")
    add_commands(commands)

    assert execute(parser.parse_args(["run"])) == 0
    assert execute(parser.parse_args(["methods"])) == 0

    assert re.match(r"ran\nname +class", capsys.readouterr().out)


def test_the_three_most_probable_classes_of_the_cropped_image(explain, folder, capsys):
    weights = torchvision.models.ResNet18_Weights.DEFAULT
    network = torchvision.models.resnet18().eval()
    network.load_state_dict(torch.load(folder / "resnet18.pth"))
    with torch.no_grad():
        logits = network(weights.transforms()(Image.open(folder / "image.png"))[None])
    shares, classes = logits[0].softmax(0).topk(3)

    assert explain("--size", "224", "--crop", "--method", "grad_cam") == 0

    expected = [
        f"{weights.meta['categories'][k]} [{k}] {100 * share:.1f} %"
        for k, share in zip(classes.tolist(), shares.tolist(), strict=True)
    ]
    assert capsys.readouterr().out.endswith(
        f"map.png: GradCAM of torchvision/resnet18: {', '.join(expected)}\n"
    )


def test_the_method_runs_once_for_all_targets(explain, tmp_path, capsys, monkeypatch):
    calls, attribute = [], tsgb.TSGB.attribute

    def counted(self, images, targets):
        calls.append((self, tuple(images.shape), targets.tolist()))
        return attribute(self, images, targets)

    monkeypatch.setattr(tsgb.TSGB, "attribute", counted)
    targets = ("--target", "Golden Retriever", "281", "Samoyed")

    assert explain(*targets, "--option", "kappa=0.5", "skip=proportional") == 0

    ((method, shape, classes),) = calls
    assert shape == (1, 3, 64, 80)
    assert classes == [[207, 281, 258]]
    assert method._kappa == 0.5
    said = capsys.readouterr().out
    assert re.search(r"golden retriever \[207\] \d+\.\d %, tabby \[281\] .*, Samoyed \[258\]", said)
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.width == 4 * (120 + 8) + 8  # the image and three classes
        assert drawn.height > 2 * 64  # maps over overlays


def test_methods_that_wrap_others_take_their_names(explain, capsys):
    words = ("--method", "SmoothGrad", "--option", "base=GradCAM", "samples=2", "--target", "3")

    assert explain(*words) == 0
    assert "SmoothGrad of torchvision/resnet18: tiger shark [3]" in capsys.readouterr().out


def test_an_option_that_is_a_list(explain, capsys):
    words = ("--method", "gradual_extrapolation", "--option", "layers=layer1,layer3")

    assert explain(*words, "--target", "3") == 0
    assert explain(*words[:-1], "layers=layer1,layer7", "--target", "3") == 1
    assert "GradualExtrapolation: the model has no layer 'layer7'" in capsys.readouterr().err


def test_timm_with_random_weights(explain, capsys):
    words = ("--library", "timm", "--model", "mobilenetv3_small_050", "--weights", "none")

    assert explain(*words, "--method", "layer_cam", "--target", "golden retriever") == 0
    assert "timm/mobilenetv3_small_050 (random weights): golden retriever [207]" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model", "resnet19"],
            r"--model: torchvision has no classifier 'resnet19'\. Similar are: .*res",
        ),
        (
            ["--method", "grad_cma"],
            r"--method: there is no method 'grad_cma'\. .*grad_cam.*See 'ts",
        ),
        (["--layer", "layer5"], r"TSGB: the model has no layer 'layer5'.*layer4"),
        (
            ["--layer", "layer4", "--method", "smooth_grad"],
            r"--layer: smooth_grad has no layer to choose",
        ),
        (
            ["--option", "kapa=1"],
            r"--option: 'kapa=1' is not an option of tsgb.*kappa=1\.0, saturation",
        ),
        (["--option", "kappa"], r"--option: 'kappa' is not an option of tsgb\. Give KEY=VALUE"),
        (["--option", "kappa=x"], r"--option: 'kappa=x' is not a number\."),
        (["--option", "kappa=2"], r"TSGB: kappa is 2\.0\."),
        (["--option", "skip=none"], r"TSGB: skip is 'none'\."),
        (["--method", "cam", "--option", "a=1"], r"defaults are: none\."),
        (
            ["--method", "smooth_grad", "--option", "samples=1.5"],
            "'samples=1.5' is not a whole num",
        ),
        (["--method", "smooth_grad", "--option", "base=x"], r"--method: there is no method 'x'"),
        (["--method", "gradual_extrapolation", "--option", "rectify=1"], r"is not true or false\."),
        (["--target", "goldn retriever"], r"--target: the network has no class.*golden retriever"),
        (["--target", "1000"], r"no class '1000'.*an index from 0 to 999\."),
        (["--weights", "nowhere.pth"], r"--weights: there is no file 'nowhere\.pth'\."),
        (
            ["--weights", "text.pth"],
            r"--weights: 'text\.pth' cannot be read as a file of tensors",
        ),
        (["--weights", "other.pth"], r"--weights: other\.pth does not fit ResNet.*: missing"),
        (["--size", "0"], r"--size: 0 px is too small\."),
        (["--out", "map.text"], r"--out: save: 'map\.text' does not end like a picture"),
        (
            ["--model", "vit_b_32", "--weights", "none"],
            r"cannot take an image of 80 x 64 px.*--crop",
        ),
    ],
)
def test_mistakes_end_in_a_message(explain, capsys, tmp_path, words, message):
    assert explain(*words) == 1

    said = capsys.readouterr()
    assert re.match(rf"tsgb: .*{message}", said.err, re.DOTALL)
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not (tmp_path / "map.png").exists()


def test_of_several_classes_the_most_probable_is_explained(explain, folder, capsys):
    words = ("--method", "grad_cam", "--target", "dog", "retriever", "tabby")

    assert explain(*words) == 0

    said = capsys.readouterr().out
    every = [str(index) for index in range(151, 269)]
    assert explain("--method", "grad_cam", "--target", *every) == 0
    shares = re.findall(r"\[(\d+)\] (\d+\.\d) %", capsys.readouterr().out)
    index, share, rest = re.search(r"\[(\d+)\] (\d+\.\d) % (.*)", said).groups()
    assert dict(shares)[index] == share == max((s for _, s in shares), key=float)
    assert rest.startswith("(the most probable of 118 that 'dog' fits), ")
    assert "% (the most probable of 5 that 'retriever' fits), tabby [281]" in rest
    assert said.count("fits") == 2


def test_the_picture_is_named_after_the_image_and_the_method(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    words = ("--model", "resnet18", "--weights", "none", "--size", "64", "--method", "GradCAM")

    assert main(["explain", "image.png", *words]) == 0

    assert capsys.readouterr().out.startswith("image_grad_cam.png: GradCAM of")
    assert (folder / "image_grad_cam.png").is_file()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.png", "tsgb: IMAGE: there is no file 'nowhere.png'. Check the path.\n"),
        ("text.png", "tsgb: IMAGE: 'text.png' cannot be read"),
    ],
)
def test_images_that_are_none(explain, capsys, image, message):
    assert explain(image=image) == 1
    assert capsys.readouterr().err.startswith(message)


def test_the_largest_size_of_a_photo_can_be_set(explain, capsys):
    assert explain("--megapixels", "0.005") == 1
    assert re.search(
        r"IMAGE: 'image\.png' has 100 x 80 pixels, .* where 0\.005 are allowed\. .* See --mega",
        capsys.readouterr().err,
    )
    assert explain("--megapixels", "0.008", "--target", "3", "--method", "grad_cam") == 0


def test_a_dark_photo_of_12_bits_is_explained_with_a_note(explain, folder, capsys):
    values = np.arange(6400, dtype=np.uint16).reshape(80, 80) % 4096
    Image.fromarray(values).save(folder / "dark.png")

    assert explain("--target", "3", "--method", "grad_cam", image="dark.png") == 0

    said = capsys.readouterr()
    assert said.err.startswith("tsgb: 'dark.png' has 16 bits a channel, but no value above 4095")
    assert "tiger shark" in said.out


def test_a_network_has_to_be_named(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    assert main(["explain", "image.png", "--weights", "resnet18.pth"]) == 1
    assert capsys.readouterr().err.startswith("tsgb: --model: not given. Name a network, such as")


def checkpoint(folder):
    about = {"settings": {"backbone": "resnet18"}, "classes": ["cat"]}
    torch.save({"hyper_parameters": about, "state_dict": {}}, folder / "last.ckpt")


def test_a_checkpoint_of_the_pipeline_is_named_without_the_pipeline(folder, monkeypatch, capsys):
    checkpoint(folder)
    monkeypatch.chdir(folder)

    assert main(["explain", "image.png", "--weights", "last.ckpt"]) == 1
    assert capsys.readouterr().err == (
        "tsgb: --weights: 'last.ckpt' is a checkpoint that `tsgb run` trained, and the pipeline is "
        "needed to read it. Install it, pip install 'tsgb[pipeline]', and use the command tsgb.\n"
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--model", "resnet18"], 0),
        (["--model", "torchvision/resnet18"], 0),
        (["--model", "resnet50"], 1),
    ],
)
def test_another_program_can_read_checkpoints(folder, tmp_path, monkeypatch, capsys, words, code):
    checkpoint(folder)
    monkeypatch.chdir(folder)
    parser = argparse.ArgumentParser(prog="other")
    asked = []

    def read(path):
        asked.append(path)
        return library_classifier("torchvision", "resnet18", "resnet18.pth")

    add_commands(parser.add_subparsers(required=True), read)
    usual = ["--weights", "last.ckpt", "--out", str(tmp_path / "map.png"), "--target", "3"]

    assert execute(parser.parse_args(["explain", "image.png", *usual, *words])) == code

    said = capsys.readouterr()
    assert asked == ["last.ckpt"]
    assert ("TSGB of torchvision/resnet18: tiger shark" in said.out) == (code == 0)
    assert ("'last.ckpt' is a checkpoint of torchvision/resnet18. Leave" in said.err) == bool(code)


def test_failed_downloads_name_the_remedy(explain, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", fail)

    assert explain("--weights", "download") == 1
    assert re.search(
        r"--model: torchvision cannot load.*no route to host.*path of the file",
        capsys.readouterr().err,
    )
