"""Write true masks of randomly chosen training images, in the place of masks that people correct.

`python scripts/true_masks.py OUT --seeds 0,1,2 --counts 5,20,50 data=shapes [SETTING ...]` writes
`OUT/<seed>/<count>/<id>.png` and the class names. Fewer images are among the more. For studies.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from pipeline.data.catalogue import Catalogue, Item
from pipeline.data.truth import ground_truth
from pipeline.formats.photos import Photos
from pipeline.formats.png import PngWriter
from pipeline.run.building import build_data
from pipeline.run.schema import CONFIGS, register_schema
from pipeline.run.settings import plain


def data_of(overrides: Sequence[str]) -> Catalogue:
    """The data set that settings describe."""
    register_schema()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build_data(plain(compose("run", overrides=list(overrides))).data)


def chosen(items: Sequence[Item], count: int, random_seed: int) -> list[Item]:
    """Items in random order, the first ``count`` of them.

    Example:
        >>> items = [Item(name, Path(name), ()) for name in "abcdef"]
        >>> [item.id for item in chosen(items, 2, 0)] == [i.id for i in chosen(items, 3, 0)][:2]
        True
    """
    mixed = sorted(items, key=lambda item: item.id)
    random.Random(random_seed).shuffle(mixed)
    return mixed[:count]


def write(folder: Path, data: Catalogue, items: Sequence[Item]) -> None:
    """Write the true masks of these images."""
    target = PngWriter(folder, dict(enumerate(data.classes, start=1)))
    for item in items:
        target.add(Photos({}).named(item.id), ground_truth(item), [])
    target.finish()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="where the folders go")
    parser.add_argument("--seeds", default="0,1,2", help="of the choice; default: 0,1,2")
    parser.add_argument("--counts", default="5,20,50", help="how many; default: 5,20,50")
    parser.add_argument("overrides", nargs="*", help="settings of the data")
    wanted = parser.parse_intermixed_args(arguments)  # settings also follow options
    data = data_of(wanted.overrides)
    for seed in map(int, wanted.seeds.split(",")):
        for count in map(int, wanted.counts.split(",")):
            write(wanted.out / str(seed) / str(count), data, chosen(data.train.items, count, seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
