"""Exported networks answer as the trained one, and say what they are."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import tsgb
from pipeline import Use, load
from pipeline.base.config import SegmenterConfig
from pipeline.base.errors import ConfigError, DataError, MissingArtifactError
from pipeline.data.palette import PALETTE
from pipeline.inference import exporting
from pipeline.inference.exporting import TOLERANCE, Format, Source, expected, export, find_source
from pipeline.tasks.segmenter import SegmenterTask
from tests.pipeline.runs import do, with_settings

# It still loads what it saves, and is what programs in C++ read.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:FutureWarning")
SIZES = [(1, 3, 64, 64), (3, 3, 47, 90), (1, 3, 1, 200), (2, 3, 33, 32)]


def noise(shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.manual_seed(1))


def segmenter(**settings):
    """A source without a run; random weights."""
    torch.manual_seed(0)
    config = SegmenterConfig(**{"encoder": "tu-test_resnet", "weights": "none", **settings})
    return Source(SegmenterTask.from_config(config, ("cat", "dog")).eval(), None, Path("unused"))


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def about_of(path):
    return json.loads(session(path).get_modelmeta().custom_metadata_map["tsgb"])


@pytest.mark.parametrize(
    "settings",
    [
        {"arch": "unet"},
        {"arch": "deeplabv3plus", "encoder": "mobilenet_v2"},
        {"arch": "fpn", "encoder": "resnet18", "mean": [0.5, 0.4, 0.3], "deviation": [0.1] * 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Format.onnx, Format.torchscript])
def test_programs_take_pixels_of_any_size_and_answer_as_the_network(settings, kind, tmp_path):
    source = segmenter(**settings)

    path, _ = export(source, kind, tmp_path)

    for shape in SIZES:
        images = noise(shape)
        if kind is Format.onnx:
            (found,) = session(path).run(None, {"image": images.numpy()})
        else:
            found = torch.jit.load(path)(images).detach().numpy()
        assert found.shape == (shape[0], 3, *shape[2:])
        assert np.abs(found - expected(source.task, images)).max() <= TOLERANCE


def test_the_file_says_what_it_is(copied, tmp_path):
    kinds = {kind: export(find_source(copied.folder, classifier=False), kind, tmp_path)[0]
             for kind in Format}  # fmt: skip

    about = about_of(kinds[Format.onnx])
    extra = {"tsgb": ""}
    torch.jit.load(kinds[Format.torchscript], _extra_files=extra)
    with safe_open(kinds[Format.safetensors], "pt") as file:
        texts = [extra["tsgb"], file.metadata()["tsgb"]]
    assert all(json.loads(text) == about for text in texts)
    settings, task = copied.settings.segmenter, find_source(copied.folder, classifier=False).task
    assert about["labels"] == ["background", *copied.data.classes]
    assert about["palette"] == PALETTE[: len(about["labels"])].tolist()
    assert (about["mean"], about["deviation"]) == (
        list(task.colours.mean), list(task.colours.deviation),
    )  # fmt: skip
    assert about["multiple"] == 32
    assert about["network"]["arch"] == settings.arch
    scored = copied.stage("evaluate")
    assert about["scores"]["mIoU"] == scored.summary["scores"]["mIoU"]
    assert about["scores"]["protocol"] == "val, scale 1, no flip, not refined"
    assert about["revision"] == find_source(copied.folder, classifier=False).record.made_by["git"]
    assert str(copied.folder) not in json.dumps(about)


def test_the_model_is_valid_onnx_with_three_free_sides(tmp_path):
    path, _ = export(segmenter(), Format.onnx, tmp_path / "own.onnx")

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    sides = [side.dim_param or side.dim_value for side in image.type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert path == tmp_path / "own.onnx"
    assert (tmp_path / "README.md").is_file()


@pytest.mark.parametrize(
    "settings", [{}, {"scales": [0.5, 1.0], "flip": True}], ids=["plain", "scales"]
)
def test_weights_predict_as_the_run(copied, tmp_path, settings):
    run = with_settings(copied, evaluate=settings) if settings else copied
    do(run, "evaluate")
    path = export(find_source(copied.folder, classifier=False), Format.safetensors, tmp_path)[0]

    network, exported = load(copied.folder), load(path)

    photo = copied.data.val.items[0].image
    assert exported.passes == network.passes
    assert exported.classes == network.classes
    assert np.array_equal(
        exported.predict(photo).probabilities, network.predict(photo).probabilities
    )


def test_weights_are_those_of_segmentation_models_pytorch(copied, tmp_path):
    source = find_source(copied.folder, classifier=False)
    export(source, Format.safetensors, tmp_path)

    network = smp.from_pretrained(tmp_path)

    images = noise((2, 3, 64, 96))
    about = source.about
    mean, deviation = (torch.tensor(about[k]).view(3, 1, 1) for k in ("mean", "deviation"))
    with torch.no_grad():
        planes = network((images / 255 - mean) / deviation).softmax(1).numpy()
    assert np.abs(planes - expected(source.task, images)).max() <= TOLERANCE


def test_a_run_is_needed_for_what_the_file_lacks(copied, tmp_path):
    path = export(find_source(copied.folder, classifier=False), Format.safetensors, tmp_path)[0]

    for use in (Use(prior=True), Use(refine=True)):
        with pytest.raises(MissingArtifactError, match="Name the whole folder of the run"):
            load(path, use)


def test_damaged_and_foreign_weights_are_named(copied, tmp_path):
    path = export(find_source(copied.folder, classifier=False), Format.safetensors, tmp_path)[0]
    whole = path.read_bytes()

    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="checksum of its weights is wrong"):
        load(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(DataError, match="damaged, or no file of safetensors"):
        load(path)
    for metadata in (None, {"tsgb": "words"}, {"tsgb": "[1]"}, {"tsgb": '{"layout": 99}'}):
        save_file({"a": torch.zeros(2)}, path, metadata)
        with pytest.raises(DataError, match="no segmenter that `tsgb export"):
            load(path)


def test_weights_that_do_not_fit_are_named(copied, tmp_path):
    source = find_source(copied.folder, classifier=False)
    path = export(source, Format.safetensors, tmp_path)[0]

    for change in ({"network": {"arch": "unet"}}, {"labels": ["background", "one"]}):
        about = {"tsgb": json.dumps({**source.about, **change})}
        save_file(load_file(path), path, about)
        with pytest.raises(DataError, match="cannot be used"):
            load(path)


def test_programs_are_never_executed_by_load(tmp_path):
    for kind in (Format.onnx, Format.torchscript):
        path = export(segmenter(), kind, tmp_path)[0]
        with pytest.raises(DataError, match=r"does not execute\. Run it with"):
            load(path)


def test_a_classifier_takes_pixels_too(copied, tmp_path):
    source = find_source(copied.folder, classifier=True)

    (path,) = export(source, Format.onnx, tmp_path)

    for shape in SIZES[:2]:
        images = noise(shape)
        (found,) = session(path).run(None, {"image": images.numpy()})
        assert np.abs(found - source.task(images).sigmoid().detach().numpy()).max() <= TOLERANCE
    about = about_of(path)
    assert (path.name, about["kind"], about["size"]) == ("classifier.onnx", "classifier", 64)
    assert about["labels"] == list(copied.data.classes)
    assert about["scores"]["mAP"] == copied.stage("classifier").summary["mAP"]
    with pytest.raises(ConfigError, match="Export a classifier as onnx"):
        export(source, Format.safetensors, tmp_path)


def test_the_classifier_of_a_run_is_explained(copied):
    """As docs/predict.md says."""
    task = find_source(copied.folder, classifier=True).task

    maps = tsgb.TSGB(task.network).attribute(task.inputs(noise((1, 3, 64, 64))), torch.tensor([0]))

    assert maps.shape[:2] == (1, 1)


def test_a_checkpoint_alone_is_exported_and_says_what_it_does_not_know(copied, tmp_path):
    for stage, classifier in (("segmentation", False), ("classifier", True)):
        place = copied.stage(stage).path / "last.ckpt"
        source = find_source(place, classifier=classifier)
        path = export(source, Format.onnx, tmp_path)[0]
        about = about_of(path)
        assert (about["scores"], about["revision"]) == ({}, "unknown")
    assert "unknown (exported from a checkpoint alone)" in (tmp_path / "README.md").read_text()


def test_a_name_of_another_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"but onnx files end in \.onnx"):
        export(segmenter(), Format.onnx, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


class Differs(nn.Module):
    """Adds 1 to the logits of the first label of wide photos, which tracing cannot record."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        logits = self.network(images)
        return logits + float(int(images.shape[-1]) > 150) * torch.eye(3)[0].view(1, 3, 1, 1)


@pytest.mark.parametrize("kind", [Format.onnx, Format.torchscript])
def test_what_answers_otherwise_is_not_written(kind, tmp_path, monkeypatch):
    source = segmenter()
    source.task.network = Differs(source.task.network)
    monkeypatch.setattr(exporting, "_TRACED", (1, 64, 64))

    with pytest.raises(ConfigError, match=r"differs by 0\.\d+, more than 0.0001, for 1 image"):
        export(source, kind, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Untraceable(nn.Module):
    def forward(self, images):
        raise RuntimeError("no such operator")


def test_what_cannot_be_traced_is_named(tmp_path):
    source = segmenter()
    source.task.network = Untraceable()

    with pytest.raises(ConfigError, match="cannot be traced: no such operator"):
        export(source, Format.onnx, tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_names_the_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ConfigError, match=r"pip install 'tsgb\[export\]'"):
        export(segmenter(), Format.onnx, tmp_path)


@pytest.mark.parametrize("kind", list(Format))
def test_the_same_network_is_replaced_and_another_is_not(kind, tmp_path):
    source, other = segmenter(), segmenter(arch="fpn")
    paths = export(source, kind, tmp_path)
    export(source, kind, tmp_path)
    before = {path: path.read_bytes() for path in paths}

    with pytest.raises(ConfigError, match="is no export of this network"):
        export(other, kind, tmp_path)

    assert {path: path.read_bytes() for path in paths} == before


def test_a_card_that_a_person_has_filled_in_is_kept(tmp_path):
    source = segmenter()
    export(source, Format.safetensors, tmp_path)
    card = tmp_path / "README.md"
    card.write_text(card.read_text().replace("license: unknown  # TO BE FILLED IN", "license: mit"))

    export(source, Format.onnx, tmp_path)

    assert "license: mit" in card.read_text()
    card.write_text("# Thesis")
    with pytest.raises(ConfigError, match=r"README\.md: exists"):
        export(source, Format.onnx, tmp_path)
