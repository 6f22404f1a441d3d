"""`tsgb predict` as a person uses it."""

import csv
import re

import cv2
import numpy as np
import pytest

from pipeline import load
from pipeline.base.errors import ConfigError
from pipeline.command import main
from pipeline.data.palette import read_label_image
from pipeline.inference import outputs
from pipeline.inference.tiles import Tiling
from tests.conftest import ROOT
from tests.pipeline.runs import do, with_settings


@pytest.fixture
def photos(copied, tmp_path):
    """Three photos of the built-in data, one in a sub-folder."""
    folder = tmp_path / "photos"
    for k, item in enumerate(copied.data.val.items[:3]):
        place = folder / ("deep" if k == 2 else ".")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{k}.jpg").write_bytes(item.image.read_bytes())
    return folder


@pytest.fixture
def command(copied, photos, tmp_path):
    def run(*words, where=photos, code=0):
        assert (
            main(
                ["predict", str(copied.folder), str(where), "--out", str(tmp_path / "out"), *words]
            )
            == code
        )
        return tmp_path / "out"

    return run


def test_label_images_and_a_table(copied, command, photos):
    out = command()

    network = load(copied.folder)
    for name in ("0", "1", "deep/2"):
        result = network.predict(photos / f"{name}.jpg")
        assert np.array_equal(read_label_image(out / "labels" / f"{name}.png"), result.labels)
    with (out / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for name in ("0", "1", "deep/2"):
        own = [row for row in rows if row["image"] == name]
        assert sum(int(row["pixels"]) for row in own) == result.labels.size
        assert sum(float(row["share"]) for row in own) == pytest.approx(1, abs=1e-4)
        assert all(0 < float(row["confidence"]) <= 1 for row in own)
    assert {p.name for p in out.iterdir()} == {
        "labels",
        "predictions.csv",
        "predictions.json",
        ".done",
    }


def test_what_is_asked_for_beside_them(copied, command, photos):
    out = command("--overlay", "--probabilities", "--confidence")

    result = load(copied.folder).predict(photos / "0.jpg")
    folders = sorted((out / "probabilities").iterdir())
    assert [f.name for f in folders] == [f"{k}_{n}" for k, n in enumerate(result.names)]
    for folder, plane in zip(folders, result.probabilities, strict=True):
        stored = cv2.imread(str(folder / "0.png"), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        assert np.abs(stored / 65535 - plane).max() < 1e-5
    confidence = cv2.imread(str(out / "confidence" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(confidence / 65535 - result.confidence).max() < 1e-5
    assert cv2.imread(str(out / "overlays" / "0.jpg")).shape == result.image.shape


def test_the_same_command_makes_what_is_missing_and_changed(command, photos, capsys):
    out = command()
    first = (out / "labels" / "0.png").stat().st_mtime_ns
    (out / "labels" / "1.png").unlink()
    (photos / "deep" / "2.jpg").write_bytes((photos / "0.jpg").read_bytes())

    command("--overlay")  # which none has yet

    assert (out / "labels" / "1.png").exists()
    assert (out / "labels" / "0.png").stat().st_mtime_ns != first
    again = (out / "labels" / "0.png").stat().st_mtime_ns
    command("--overlay")
    assert (out / "labels" / "0.png").stat().st_mtime_ns == again
    assert "3 of 3 photos are labelled already" in capsys.readouterr().err
    assert np.array_equal(
        read_label_image(out / "labels" / "deep" / "2.png"), read_label_image(out / "labels/0.png")
    )


@pytest.mark.parametrize("words", [["--flip"], ["--scales", "0.5,1"], ["--tile", "64"]])
def test_predictions_made_in_another_way_are_not_mixed(command, words, capsys):
    command()

    command(*words, code=1)

    assert "made with other" in capsys.readouterr().err


def test_a_folder_of_other_files_is_left_alone(command, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()

    command(code=1)

    assert "is not empty" in capsys.readouterr().err


def test_one_bad_photo_is_named_and_the_others_are_labelled(command, photos, capsys):
    (photos / "1.jpg").write_bytes(b"no photo")

    out = command(code=1)

    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 3 images failed; the other 2 are done" in said
    assert "1.jpg: not a whole image" in said
    assert sorted(p.name for p in (out / "labels").rglob("*.png")) == ["0.png", "2.png"]


def test_memory_of_one_photo_is_one_photos(command, monkeypatch, capsys):
    whole, seen = outputs.Outputs.label, []

    def label(self, network, id_, photo):
        seen.append(id_)
        if len(seen) == 1:
            raise MemoryError
        whole(self, network, id_, photo)

    monkeypatch.setattr(outputs.Outputs, "label", label)
    command(code=1)

    assert "not enough memory" in capsys.readouterr().err


def test_photos_may_be_listed(command, photos, tmp_path):
    (tmp_path / "list.txt").write_text("photos/0.jpg\nphotos/deep/2.jpg\n")

    out = command(where=tmp_path / "list.txt")

    assert sorted(p.name for p in (out / "labels").iterdir()) == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a.jpg"], "no such file"), (["0.jpg", "deep/0.jpg"], "has the same name as")],
)
def test_photos_that_cannot_be_used_are_named(command, photos, tmp_path, capsys, names, message):
    (photos / "deep" / "0.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("".join(f"photos/{name}\n" for name in names))

    command(where=tmp_path / "list.txt", code=1)

    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_the_code_of_the_page_runs(copied, photos, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "predict.md").read_text().partition("## Take the network away")[0]
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "shapes").symlink_to(copied.folder)
    (photos / "0.jpg").rename(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}

    exec(code, names)

    assert names["overlay"].shape == (64, 64, 3)
    assert "(6, 64, 64)" in capsys.readouterr().out


def test_a_stage_does_the_same_with_the_settings_of_the_run(copied, command, photos):
    out = command("--flip", "--scales", "0.5,1.0")
    run = with_settings(
        copied,
        predict={"images": str(photos), "confidence": True},
        evaluate={"flip": True, "scales": [0.5, 1.0]},
    )

    do(run, "predict")

    folder = copied.folder / "predict" / "photos"
    for name in ("0", "1", "deep/2"):
        path = f"labels/{name}.png"
        assert (folder / path).read_bytes() == (out / path).read_bytes()
    assert (folder / "predictions.csv").read_bytes() == (out / "predictions.csv").read_bytes()
    assert len(list((folder / "confidence").rglob("*.png"))) == 3
    with pytest.raises(ConfigError, match=r"predict\.images=FOLDER"):
        do(with_settings(copied, predict={"images": None}), "predict")


def test_a_whole_run_names_the_next_commands(copied):
    do(copied, "all")

    said, page = dict(copied.terminal.lines), (copied.folder / "report" / "index.html").read_text()
    wanted = {
        "predict": f"tsgb predict {copied.folder} photos/ --out predictions/",
        "review": f"tsgb review {copied.folder}",
    }
    assert {name: said[name] for name in wanted} == wanted
    assert all(command in page for command in wanted.values())


def test_a_run_that_is_none_is_named(photos, tmp_path, capsys):
    assert (
        main(["predict", str(tmp_path / "typo"), str(photos), "--out", str(tmp_path / "out")]) == 1
    )
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--overlay", "--refine"])
def test_what_a_tiff_cannot_have_is_refused_before_any_photo_is_labelled(
    command, photos, tmp_path, capsys, option
):
    pytest.importorskip("rasterio")
    (photos / "z.tif").touch()

    command(option, code=1)

    assert "TIFF files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values", ["uint8", "uint16", "grey"])
def test_a_tiff_is_labelled_by_windows(copied, tmp_path, values):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    pixels = pixels[..., :1].repeat(3, 2) if values == "grey" else pixels
    stored = pixels.astype(np.uint16) * 257 if values == "uint16" else pixels
    bands = 1 if values == "grey" else 3
    photo = tmp_path / "field.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(
            photo, "w", driver="GTiff", height=150, width=200, count=bands, dtype=stored.dtype
        ) as file,
    ):
        file.write(stored[..., :bands].transpose(2, 0, 1))

    words = [
        "predict",
        str(copied.folder),
        str(photo),
        "--out",
        str(tmp_path / "out"),
        "--tile",
        "64",
    ]
    assert main(words) == 0

    network = load(copied.folder)
    network = network.with_passes(type(network.passes)(tiling=Tiling(64)))
    found = read_label_image(tmp_path / "out" / "labels" / "field.tif")
    assert np.array_equal(found, network.predict(pixels).labels)
    assert "field,background," in (tmp_path / "out" / "predictions.csv").read_text() or found.all()
    assert main([*words, "--overlay"]) == 1
