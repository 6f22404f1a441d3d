"""Stage `pseudo_labels`: maps to label images, by thresholds and refinement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.files import write_bytes
from pipeline.base.ranks import share
from pipeline.data.catalogue import Item
from pipeline.data.images import enlarge
from pipeline.data.palette import encode_label_image
from pipeline.data.pixels import read_pixels
from pipeline.masks.refine import Refinement
from pipeline.masks.seed import confident, label_image, with_background
from pipeline.networks.device import exact_products, workers_of
from pipeline.stages.failures import Failures, in_parallel, raise_if_any
from pipeline.stages.job import Job, Summary
from pipeline.stages.label_images import KINDS, are_made, mask_path
from pipeline.stages.maps import masked_split
from pipeline.stages.refinement import refinement, shared_features
from pipeline.stages.seed_maps import SeedMaps, seed_maps


def work(job: Job) -> Summary:
    """Write three label images of every image that has maps.

    ``seeds/``: saliency over the background threshold. ``refined/``: the same after refinement.
    ``masks/``: refinement of two thresholds, void where they disagree; the segmenter learns these.
    """
    items = masked_split(job.settings.saliency, job.data).items
    missing = [item for item in share(items) if not are_made(job.folder, item)]
    failures: Failures = {}
    maker = _maker(job)
    with exact_products(), job.terminal.progress("pseudo-labels", len(missing)) as step:
        results = in_parallel(maker.make, missing, max(workers_of(job.settings.trainer), 1))
        for count, (item, result) in enumerate(results, start=1):
            if result is not None:
                failures[item.id] = str(result)
            step(count, len(missing))
    raise_if_any(failures, len(items), "pseudo_labels")
    return {"images": len(items)}


@dataclass(frozen=True)
class _Maker:
    """Label images of one image, written as files."""

    folder: Path
    maps: SeedMaps
    refine: Refinement

    def make(self, item: Item) -> None:
        image, seed = read_pixels(item), self.maps.seed
        maps = enlarge(self.maps.read(item), image.shape[:2])
        levels = sorted({seed.threshold, seed.foreground, seed.background})  # equal ones once
        planes = {level: with_background(maps, level, seed.plane) for level in levels}
        results = zip(levels, self.refine(image, list(planes.values())), strict=True)
        refined = {level: label_image(q, item.labels) for level, q in results}
        images = (
            label_image(planes[seed.threshold], item.labels),
            refined[seed.threshold],
            confident(refined[seed.foreground], refined[seed.background]),
        )
        for kind, labels in zip(KINDS, images, strict=True):
            write_bytes(mask_path(self.folder, kind, item), encode_label_image(labels))


def _maker(job: Job) -> _Maker:
    reader = shared_features(job)
    return _Maker(job.folder, seed_maps(job, reader), refinement(job, reader))
