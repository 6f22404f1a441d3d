import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

import tsgb
from tsgb._classifiers import fitting, load_classifier
from tsgb.cli import main, methods

CONFIGS = Path(__file__).parents[2] / "configs" / "saliency"


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


def test_the_table_names_every_method_as_the_configurations_do(capsys):
    assert main(["methods"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert {row[0] for row in rows} >= {path.stem for path in CONFIGS.glob("*.yaml")}
    for row in rows:
        assert methods()[row[0]] is getattr(tsgb, row[1])
    reads = {row[0]: row[2] for row in rows}
    assert (reads["tsgb"], reads["cam"], reads["grad_cam"]) == ("image", "last", "last")


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


def test_cropping_is_the_preprocessing_of_timm(folder):
    image = Image.open(folder / "image.png")
    ours = load_classifier("timm", "mobilenetv3_small_050", "none").preprocessing
    network = timm.create_model("mobilenetv3_small_050")
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(network))

    pixels = ours.tensor(ours.view(image, None, crop=True))

    torch.testing.assert_close(pixels[0], theirs(image))


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
            r"--layer: smooth_grad reads at a place",
        ),
        (
            ["--option", "kapa=1"],
            r"--option: 'kapa=1' is no option of tsgb.*kappa=1\.0, saturation",
        ),
        (["--option", "kappa"], r"--option: 'kappa' is no option of tsgb\. Give KEY=VALUE"),
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
            r"--weights: 'text\.pth' does not hold the weights of resnet18",
        ),
        (["--weights", "other.pth"], r"--weights: 'other\.pth' does not hold .*Missing key"),
        (["--size", "0"], r"--size: 0 px is no size of an image\."),
        (["--out", "map.text"], r"--out: save: 'map\.text' has no ending of a picture\."),
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


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("281", ["tabby"], id="index"),
        pytest.param("Golden RETRIEVER", ["golden retriever"], id="name"),
        pytest.param("cardigan", ["Cardigan", "cardigan"], id="one-name-two-classes"),
        pytest.param("bear", ["brown bear", "American black bear", "ice bear", "sloth bear"],
                     id="word"),
        pytest.param("icebear", [], id="nothing"),
        pytest.param("1000", [], id="no-such-index"),
        pytest.param("retrie", ["flat-coated retriever", "curly-coated retriever",
                                "golden retriever", "Labrador retriever",
                                "Chesapeake Bay retriever"], id="part"),
    ],
)  # fmt: skip
def test_the_classes_that_a_word_fits(word, expected):
    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]

    assert [names[index] for index in fitting(word, names)] == expected


@pytest.mark.parametrize(
    ("word", "count", "first", "last"),
    [("dog", 118, "Chihuahua", "Mexican hairless"), ("cat", 5, "tabby", "Egyptian cat"),
     ("Bird", 59, "cock", "albatross")],
)  # fmt: skip
def test_words_for_many_classes_of_imagenet(word, count, first, last):
    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]

    found = fitting(word, names)

    assert (len(found), names[found[0]], names[found[-1]]) == (count, first, last)
    assert fitting(word, ["dogma", "catalogue", "birdhouse"]) == [
        ["dog", "cat", "bird"].index(word.lower())
    ]


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


def test_failed_downloads_name_the_remedy(explain, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", fail)

    assert explain("--weights", "download") == 1
    assert re.search(r"no route to host.*--weights PATH", capsys.readouterr().err)
