"""Five bands of 16 bits go the whole way: run, prediction, export, and what is refused."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import rasterio
import timm
import torch
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from pipeline import Use, load
from pipeline.base.errors import ConfigError, DataError
from pipeline.command import main
from pipeline.data.palette import read_label_image
from pipeline.data.pixels import read_pixels
from pipeline.inference.exporting import Format, export, find_source
from pipeline.inference.tiles import Tiling
from pipeline.run.run import Run
from pipeline.run.settings import plain
from pipeline.stages.predictions import prediction_path
from pipeline.stages.trained import load_classifier, load_segmenter
from tests.conftest import TINY, composed
from tests.pipeline.runs import again, check, do, with_settings


@pytest.fixture(scope="module")
def finished_bands(tmp_path_factory):
    """A finished run on tiny images of five bands, half of them TIFF."""
    folder = tmp_path_factory.mktemp("bands")
    words = (*TINY, "data=bands", f"data.root={folder / 'drawn'}", "segmenter.twin=false")
    drawn = Run(plain(composed(*words)), folder / "unused").data
    images, masks = folder / "data", folder / "masks"
    images.mkdir()
    masks.mkdir()
    lines = []
    for number, item in enumerate((*drawn.train.items, *drawn.val.items)):
        if number % 2:
            write_tif(images / f"{item.id}.tif", np.load(item.image))
        else:
            shutil.copy(item.image, images)
        shutil.copy(item.mask, masks)
        lines.append(",".join([item.id, *(drawn.classes[k] for k in item.labels)]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "val.txt").write_text("\n".join(drawn.val.ids) + "\n")
    own = [word for word in TINY if not word.startswith("data.")]
    run = Run(
        plain(
            composed(
                *own, "data=folder", f"data.images={images}", f"data.labels={folder}/labels.csv",
                f"data.val={folder}/val.txt", f"data.masks={masks}", "data.channels=5",
                "data.bands=[4,2,1]", "segmenter.twin=false",
            )
        ),
        folder / "run",
    )  # fmt: skip
    do(run, "all")
    return run


def write_tif(path, array):
    height, width, count = array.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=count,
            dtype=array.dtype.name,
        ) as file:  # fmt: skip
            file.write(array.transpose(2, 0, 1))


def test_mean_and_deviation_of_the_training_images_travel_with_both_networks(finished_bands):
    pixels = [read_pixels(item).reshape(-1, 5) for item in finished_bands.data.train.items]
    every = np.concatenate(pixels).astype(float)

    for task in (
        load_classifier(finished_bands.stage("classifier").path),
        load_segmenter(finished_bands.stage("segmentation").path),
    ):
        np.testing.assert_allclose(task.colours.mean, every.mean(0))
        np.testing.assert_allclose(task.colours.deviation, every.std(0))
        assert (task.bands.values, task.bands.shown) == ("uint16", (3, 1, 0))
        assert task.network(task.inputs(task.colours.noise(1, 64, 64))).ndim in (2, 4)


def test_the_run_knows_its_bands_without_another_look_at_the_images(finished_bands, monkeypatch):
    monkeypatch.setattr("pipeline.run.context.check_catalogue", None)

    assert again(finished_bands).data.bands == finished_bands.data.bands


def test_arrays_and_tiffs_are_predicted_alike_and_as_evaluated(finished_bands, tmp_path):
    network, run = load(finished_bands.folder), finished_bands
    item = next(item for item in run.data.val.items if item.image.suffix == ".npy")
    write_tif(tmp_path / "same.tif", np.load(item.image))

    results = [network.predict(photo) for photo in (
        item.image, tmp_path / "same.tif", np.load(item.image)
    )]  # fmt: skip

    folder = run.stage("evaluate").path
    expected = read_label_image(prediction_path(run.settings.evaluate, folder, item))
    for result in results:
        assert np.array_equal(result.probabilities, results[0].probabilities)
        assert np.array_equal(result.labels, expected)
        assert result.image.shape == (64, 64, 3)
        assert result.image.dtype == np.uint8


def test_pixels_without_a_value_are_predicted_as_the_mean_of_their_band(finished_bands):
    network = load(finished_bands.folder)
    pixels = np.full((64, 64, 5), np.nan, np.float32)
    mean = np.broadcast_to(np.asarray(network.bands.mean, np.float32), (64, 64, 5))

    assert np.array_equal(network.bands.filled(pixels), mean)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (np.zeros((9, 9, 3), np.uint16), r"9 x 9 pixels of 3 band\(s\), where 5 are expected"),
        (np.zeros((9, 9, 5), np.uint8), r"photo: holds uint8, the training images uint16"),
        (np.zeros(9, np.uint16), r"Pass \[H, W, C\] of 5 bands of uint16"),
    ],
    ids=["bands", "type", "shape"],
)
def test_other_images_are_refused(finished_bands, photo, message):
    with pytest.raises(DataError, match=message):
        load(finished_bands.folder).predict(photo)


def test_the_command_labels_files_of_bands_whole_or_by_windows(finished_bands, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    large = np.tile(
        np.load(next(finished_bands.data.train.items[0].image.parent.glob("*.npy"))), (3, 2, 1)
    )
    write_tif(photos / "a.tif", large)
    run, out = str(finished_bands.folder), tmp_path / "out"

    assert main(["predict", run, str(photos), "--out", str(out / "whole"), "--overlay"]) == 0
    assert main(["predict", run, str(photos), "--out", str(out / "tiles"), "--tile", "64"]) == 0

    with Image.open(out / "whole/overlays/a.jpg") as overlay:
        assert overlay.size == large.shape[1::-1]
    expected = load(run, Use(tiling=Tiling(64))).predict(photos / "a.tif").labels
    with Image.open(out / "tiles/labels/a.tif") as written:
        assert np.array_equal(np.asarray(written), expected)


@pytest.mark.parametrize("refine", ["walk_crf", "par"])
def test_refiners_see_pictures_and_features_see_all_bands(finished_bands, refine, tmp_path):
    words = [word for word in TINY if not word.startswith("refine.")]
    node = plain(composed(*words, f"refine={refine}")).refine
    run = Run(replace(finished_bands.settings, refine=node), finished_bands.folder)

    folder = do(run, "pseudo_labels").path

    item = run.data.train.items[0]
    assert read_label_image(folder / "masks" / f"{item.id}.png").shape == (64, 64)


def test_an_exported_program_takes_the_values_of_the_files(finished_bands, tmp_path):
    item = finished_bands.data.val.items[0]
    pixels = read_pixels(item)

    path, card = export(find_source(finished_bands.folder, classifier=False), Format.onnx, tmp_path)

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})
    expected = load(finished_bands.folder).predict(item.image).probabilities
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    about = json.loads(session.get_modelmeta().custom_metadata_map["tsgb"])
    assert about["bands"]["channels"] == 5
    assert "5 bands of uint16 in their own values" in card.read_text()


def test_an_exported_network_comes_back(finished_bands, tmp_path):
    item = finished_bands.data.val.items[0]

    path, *_ = export(
        find_source(finished_bands.folder, classifier=False), Format.safetensors, tmp_path
    )

    results = [load(place).predict(item.image).labels for place in (path, finished_bands.folder)]
    assert np.array_equal(*results)


def opened(path):
    return np.asarray(Image.open(path))


def test_the_report_shows_the_images(finished_bands):
    folder = finished_bands.folder / "report" / "pictures"

    shown = {path.parent.name: opened(path) for path in folder.glob("*/*/photo.jpg")}

    held_out, learned = finished_bands.data.val, finished_bands.data.train
    assert set(shown) == {*held_out.ids, *learned.ids}
    assert all(picture.std() > 1 for picture in shown.values())  # three bands, made visible


@pytest.mark.parametrize("command", ["explain", "saliency_benchmark"])
def test_commands_about_photos_say_so(finished_bands, command):
    image = str(finished_bands.data.val.items[0].image)
    run = with_settings(finished_bands, explain={"image": image})

    with pytest.raises(ConfigError, match="5 bands"):
        do(run, command)


def test_a_first_layer_that_cannot_learn_is_noted(finished_bands, tmp_path, capsys):
    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), weights)
    settings = {"weights": str(weights), "freeze_until": "backbone.layer2"}

    check(with_settings(finished_bands, classifier=settings), "classifier")

    assert "copies of those for red, green and" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("group", ["classifier", "segmenter"])
def test_means_are_measured_and_not_given(finished_bands, group):
    run = with_settings(finished_bands, **{group: {"mean": [0.5] * 5}})

    with pytest.raises(ConfigError, match=rf"{group}\.mean: with data\.channels"):
        check(run, "classifier" if group == "classifier" else "segmentation")
