"""Draw the picture of the README: held-out photos, their maps, masks and predictions.

    jupyter execute own_photos.ipynb                          # photos/ and run/, in docs/notebooks
    tsgb run run_dir=run stage=masks saliency.split=val       # maps and masks of held-out photos
    python scripts/draw_demo_picture.py run photos

writes docs/images/demo.jpg. It shows the first held-out photos with two classes; none was chosen by
its result. The stored one is of 160 photos of 128 px: draw(..., 128), and no setting of a size.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.base.arrays import Image
from pipeline.data.images import read_image
from pipeline.data.palette import read_label_image
from pipeline.report.pictures import overlay_labels
from tsgb.draw import grid, overlay, save

OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.jpg"
ROWS = 2
ZOOM = 2  # the photos have 128 px


def main() -> int:
    """Write the picture and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("photos", type=Path, help="its photos")
    wanted = parser.parse_args()
    cells = [cell for row in islice(rows(wanted.run, wanted.photos), ROWS) for cell in row]
    save(OUT, grid(cells, columns=5))
    sys.stdout.write(f"{OUT}  {OUT.stat().st_size / 1024:.0f} KB\n")
    return 0


def rows(run: Path, photos: Path) -> Iterator[list[tuple[str, Image]]]:
    """The cells of a row for each held-out photo whose image label names two classes."""
    names = json.loads((run / "data.json").read_text())["classes"]
    for path in sorted(run.glob("evaluate/*/predictions/*.png")):
        found = np.load(next(run.glob(f"saliency/*/maps/{path.stem}.npz")))
        if len(found["classes"]) != 2:
            continue
        photo = read_image(photos / f"{path.stem}.jpg").repeat(ZOOM, 0).repeat(ZOOM, 1)
        captions = [f"where is the {names[k]}?" for k in found["classes"]]
        maps = [overlay(photo, one) for one in found["maps"].astype(np.float32)]
        mask = next(run.glob(f"pseudo_labels/*/masks/{path.stem}.png"))
        yield [
            ("photo", photo),
            *zip(captions, maps, strict=True),
            ("mask from these maps", overlay_labels(photo, read_label_image(mask))),
            ("the network's answer", overlay_labels(photo, read_label_image(path))),
        ]


if __name__ == "__main__":
    sys.exit(main())
