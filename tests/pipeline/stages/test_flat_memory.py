"""Memory does not grow with the number of images, in any stage that predicts.

Run with ``pytest -m slow -s tests/pipeline/stages/test_flat_memory.py``: it prints what it finds.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pytest

from pipeline import load
from pipeline.base.terminal import Terminal
from pipeline.commands.predict import predict
from pipeline.inference.outputs import Kinds
from pipeline.inference.photos import find_photos
from pipeline.run.executor import Step, execute
from pipeline.run.run import Run
from pipeline.run.settings import plain
from pipeline.run.table import STAGES
from tests.conftest import composed
from tests.pipeline.runs import do

IMAGES = int(os.environ.get("TSGB_TEST_IMAGES", "20000"))
SIDE = 32  # px
GROWTH = 1000  # bytes per image that may stay: less than a map, a mask or a tensor of pixels
WORDS = (
    "data=folder", "data.val=0.01", "trainer=cpu", "trainer.workers=0", "trainer.progress=false",
    f"classifier.size={SIDE}", "classifier.batch_size=100", "classifier.epochs=1",
    "classifier.min_steps=0", f"saliency.size={SIDE}", "saliency.scales=[1.0]",
    "refine.iterations=1", f"segmenter.size={SIDE}", "segmenter.batch_size=100",
    "segmenter.epochs=1", "segmenter.min_steps=0", "evaluate.split=train",
)  # fmt: skip


@pytest.fixture
def many(tmp_path):
    """A run on a folder of squares and discs, with its two networks trained for one epoch."""
    draw = np.random.default_rng(0)
    lines = ["id,square,disc"]
    for k in range(IMAGES):
        image = draw.integers(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
        if k % 2:
            cv2.circle(image, (16, 16), 9, (250, 60, 60), -1)
        else:
            cv2.rectangle(image, (8, 8), (24, 24), (60, 60, 250), -1)
        path = tmp_path / "photos" / f"{k % 100:02}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        lines.append(f"{k % 100:02}/{k},{1 - k % 2},{k % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    words = (f"data.images={tmp_path / 'photos'}", f"data.labels={tmp_path / 'labels.csv'}")
    run = Run(plain(composed(*WORDS, *words)), tmp_path / "run")
    do(run, "classifier")
    return run


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def watched(stage, images):
    """Fail if memory grows between the second quarter of the block and the last one."""
    seen, over = [], threading.Event()

    def watch():
        while not over.wait(0.1):
            seen.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.process_time()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    quarter = max(len(seen) // 4, 1)
    early, late = median(seen[quarter : 2 * quarter]), median(seen[-quarter:])
    per_image = (late - early) / (images * 5 / 8)  # from the middle of one to that of the other
    seconds = time.process_time() - began
    sizes = [f"{size / 2**20:.0f}" for size in (early, late, max(seen))]
    sys.stdout.write(f"{stage}: MiB, early, late, largest: {', '.join(sizes)}; "
                     f"{per_image:.0f} bytes per image; {seconds:.0f} s\n")  # fmt: skip
    assert per_image < GROWTH, f"{stage}: {per_image:.0f} bytes per image stay in memory"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(many, tmp_path):
    images = len(many.data.train.items)
    for stage in ("saliency", "pseudo_labels", "segmentation", "relabel", "evaluate"):
        step = Step(many, STAGES[stage])
        with nullcontext() if step.stage.trains else watched(stage, images):
            execute([step])
    network = load(many.stage("segmentation").path / "last.ckpt", device="cpu")
    photos = find_photos([str(tmp_path / "photos")], network.suffixes)
    with watched("predict", len(photos)):
        predict(network, photos, tmp_path / "out", Kinds(), Terminal(bars=False))
