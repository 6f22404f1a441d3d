"""The forms in which people have image labels lead to the same run, from labels to predictions."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.run.run import Run
from pipeline.run.settings import plain
from tests.conftest import TINY, composed
from tests.pipeline.runs import do

NAMES = ("bright", "dark")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eighteen photos in three folders: with a bright square, with a dark one, with none."""
    folder = tmp_path_factory.mktemp("forms")
    rng = np.random.default_rng(0)
    for name, grey in {"bright": 250, "dark": 5, "good": 128}.items():
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(6):
            pixels = rng.integers(100, 156, (64, 64, 3), np.uint8)
            pixels[16:48, 16:48] = grey
            Image.fromarray(pixels).save(folder / "photos" / name / f"{k}.png")
    return folder


def as_folders(folder, ids):
    return "folders"


def as_coco(folder, ids):
    shown = [[k for k, n in enumerate(NAMES) if id_.startswith(n)] for id_ in ids]
    content = {
        "images": [{"id": k, "file_name": f"{id_}.png"} for k, id_ in enumerate(ids)],
        "annotations": [
            {"image_id": image, "category_id": label, "bbox": [16, 16, 32, 32]}
            for image, labels in enumerate(shown)
            for label in labels
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def as_yolo(folder, ids):
    labels = folder / "labels"
    for id_ in ids:
        (labels / id_).parent.mkdir(parents=True, exist_ok=True)
        boxes = [f"{k} 0.5 0.5 0.5 0.5\n" for k, n in enumerate(NAMES) if id_.startswith(n)]
        (labels / f"{id_}.txt").write_text("".join(boxes))
    return labels


def run_on(photos, form, folder):
    ids = sorted(f"{p.parent.name}/{p.stem}" for p in (photos / "photos").rglob("*.png"))
    settings = [word for word in TINY if not word.startswith(("data.", "refine."))]
    words = (
        "data=folder", f"data.images={photos}/photos", f"data.labels={form(photos, ids)}",
        f"data.classes=[{','.join(NAMES)}]", "saliency=cam", "refine=none",
    )  # fmt: skip
    return Run(plain(composed(*settings, *words)), folder)


def test_the_labels_lead_to_the_same_masks_and_predictions(photos, tmp_path):
    runs = {f: run_on(photos, f, tmp_path / f.__name__) for f in (as_folders, as_coco, as_yolo)}

    for run in runs.values():
        do(run, "all")

    made = {
        form: {
            path.relative_to(run.folder).as_posix().partition("-")[2].partition("/")[2]: path
            for path in run.folder.rglob("*.png")
            if path.parts[-3] in ("masks", "predictions")
        }
        for form, run in runs.items()
    }
    assert len(made[as_folders]) == 18
    assert {name for name in made[as_folders] if name.startswith("masks/good")}
    for form in (as_coco, as_yolo):
        assert made[form].keys() == made[as_folders].keys()
        for name, path in made[form].items():
            assert path.read_bytes() == made[as_folders][name].read_bytes()
    first, *others = [run.stage("classifier").summary["AP"] for run in runs.values()]
    assert first.keys() == set(NAMES)
    assert others == [first, first]
