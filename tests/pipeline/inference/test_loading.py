"""`pipeline.load`: a run's network labels photos as its evaluation did."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import Use, load
from pipeline.base.errors import ConfigError, DataError, MissingArtifactError
from pipeline.base.files import read_json, write_sealed
from pipeline.data.palette import read_label_image
from pipeline.inference.network import Passes
from pipeline.inference.tiles import Tiling
from pipeline.stages.predictions import prediction_path
from tests.conftest import ROOT
from tests.pipeline.runs import do, with_settings


def test_predictions_are_those_of_the_evaluation(copied):
    network, config = load(copied.folder), copied.settings.evaluate
    folder = copied.stage("evaluate").path

    for item in copied.data.val.items:
        result = network.predict(item.image)
        expected = read_label_image(prediction_path(config, folder, item))
        assert np.array_equal(result.labels, expected)
        assert result.classes == copied.data.classes


@pytest.mark.parametrize(
    "settings",
    [
        {"scales": [0.5, 1.0], "flip": True},
        {"refine": True},
        {"classifier_prior": True, "scales": [1.0]},
    ],
    ids=str,
)
def test_the_settings_of_the_last_evaluation_are_the_default(copied, settings):
    run = with_settings(copied, evaluate=settings)
    folder = do(run, "evaluate").path

    network = load(copied.folder)

    item = run.data.val.items[0]
    expected = read_label_image(prediction_path(run.settings.evaluate, folder, item))
    assert np.array_equal(network.predict(item.image).labels, expected)
    plain = load(copied.folder, Use(scales=(1.0,), flip=False, refine=False, prior=False))
    assert plain.passes == Passes()
    assert plain.refine is plain.prior is None


def test_files_images_and_arrays_are_one_photo(copied):
    network, path = load(copied.folder), copied.data.val.items[0].image
    with Image.open(path) as image:
        results = [network.predict(photo) for photo in (path, str(path), image, np.array(image))]

    assert all(np.array_equal(results[0].probabilities, r.probabilities) for r in results)
    assert results[0].overlay().shape == results[0].image.shape
    assert results[0].probabilities.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert sum(results[0].pixels.values()) == results[0].labels.size


def test_a_stage_and_a_checkpoint_name_a_network_too(copied):
    folder, path = copied.stage("segmentation").path, copied.data.val.items[0].image
    expected = load(copied.folder).predict(path).probabilities

    for place in (folder, folder / "last.ckpt"):
        assert np.array_equal(load(place).predict(path).probabilities, expected)
    twin = copied.twin.stage("segmentation").path
    assert not np.array_equal(load(twin).predict(path).probabilities, expected)


def test_several_photos_are_predicted_like_each(copied):
    network = load(copied.folder)
    paths = [item.image for item in copied.data.val.items]

    together = network.predict_batch(paths)

    for path, result in zip(paths, together, strict=True):
        assert np.array_equal(result.labels, network.predict(path).labels)


def test_tiles_cover_the_whole_photo(copied):
    photo = np.random.default_rng(0).integers(0, 256, (150, 130, 3), dtype=np.uint8)

    result = load(copied.folder, Use(tiling=Tiling(64, 0.5))).predict(photo)

    assert result.labels.shape == (150, 130)
    assert result.probabilities.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_no_network_is_a_message(copied, tmp_path):
    with pytest.raises(MissingArtifactError, match="no such file or folder"):
        load(tmp_path / "typo")
    with pytest.raises(MissingArtifactError, match="has no network"):
        load(tmp_path)
    copied.stage("segmentation").begin()
    with pytest.raises(MissingArtifactError, match="its network is not finished"):
        load(copied.folder)


def test_several_networks_are_named_with_their_scores(copied):
    run = with_settings(copied, segmenter={"epochs": 2})
    do(run, "segmentation")

    with pytest.raises(MissingArtifactError, match=r"has 2 networks.*\n.*(mIoU 0\.|not scored)"):
        load(copied.folder)


def test_what_is_no_photo_is_named(copied, tmp_path):
    network = load(copied.folder)

    with pytest.raises(DataError, match=r"float64 \(3, 3\)"):
        network.predict(np.zeros((3, 3)))
    (tmp_path / "x.jpg").write_text("no photo")
    with pytest.raises(DataError, match=r"x\.jpg"):
        network.predict(tmp_path / "x.jpg")


def test_a_photo_that_would_fill_the_memory_is_refused_by_its_header(copied, tmp_path):
    Image.new("L", (30_000, 30_000)).save(tmp_path / "bomb.png")

    with pytest.raises(DataError, match=r"bomb\.png: 30000 x 30000 .*--megapixels N"):
        load(copied.folder).predict(tmp_path / "bomb.png")
    small = load(copied.folder, Use(max_megapixels=0.001))
    with pytest.raises(DataError, match=r"more than the 0\.001"):
        small.predict(copied.data.val.items[0].image)


def test_a_device_that_is_not_there_is_named(copied):
    with pytest.raises(ConfigError, match="Choose auto, cpu or cuda"):
        load(copied.folder, device="tpu9")
    with pytest.raises(ConfigError, match=r"device: 'mps' is refused: .* Choose cpu"):
        load(copied.folder, device="mps")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no GPU"):
            load(copied.folder, device="cuda")


def test_a_run_from_anybody_runs_no_code(copied):
    """The manifest of an evaluation names what refines; only options of this project count."""
    run = with_settings(copied, evaluate={"refine": True})
    manifest = do(run, "evaluate").path / "manifest.json"
    content = read_json(manifest)
    content["parts"]["settings"]["refine"] = {"_target_": "os.system", "command": "true"}
    write_sealed(manifest, {k: v for k, v in content.items() if k != "seal"})

    with pytest.raises(ConfigError, match=r"os\.system, which is no option of this project"):
        load(copied.folder)


def test_a_network_without_its_classifier_says_what_is_missing(copied):
    shutil.rmtree(copied.folder / "classifier")

    assert load(copied.folder).classes == copied.data.classes
    with pytest.raises(MissingArtifactError, match="the run's classifier is not there"):
        load(copied.folder, Use(prior=True))


def test_the_import_needs_no_hydra_and_no_torch():
    code = (
        "import sys, pipeline; assert 'torch' not in sys.modules\n"
        "from pipeline import load\n"
        "assert not {'hydra', 'omegaconf'} & set(sys.modules), 'hydra'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert done.returncode == 0, done.stderr
