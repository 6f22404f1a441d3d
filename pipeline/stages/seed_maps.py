"""Maps ready for a threshold: normalised, in competition, raised to a power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.config import SeedConfig
from pipeline.data.catalogue import Item
from pipeline.data.pixels import read_pixels
from pipeline.masks.seed import compete, normalise
from pipeline.networks.features import NetworkFeatures
from pipeline.stages.job import Job
from pipeline.stages.maps import read_maps
from pipeline.stages.refinement import shared_features


@dataclass(frozen=True)
class SeedMaps:
    """Maps in [0, 1] of the classes of an image, ready for a threshold.

    Attributes:
        folder: Folder of the stage `saliency`.
        seed: The settings.
        logits: The classifier's logits by place for the classes of an image; None for a seed
            without competition.
    """

    folder: Path
    seed: SeedConfig
    logits: Callable[[Item], NDArray[np.float32]] | None = None

    def read(self, item: Item) -> NDArray[np.float32]:
        """Maps [K, h, w], float32."""
        maps = normalise(read_maps(self.folder, item))
        if self.logits is not None and len(maps) > 1:
            maps = compete(maps, self.logits(item), self.seed.competition)
        return np.asarray(maps**self.seed.power, dtype=np.float32)


def seed_maps(job: Job, reader: Callable[[], NetworkFeatures] | None = None) -> SeedMaps:
    """The maps that the seeds of a run are made from.

    Args:
        job: With the folders of classifier and maps.
        reader: The classifier, if it is loaded already.
    """
    seed, folder = job.settings.seed, job.inputs["saliency"]
    if not seed.competition:
        return SeedMaps(folder, seed)
    network = (reader or shared_features(job))()
    size = job.settings.saliency.size * max(job.settings.saliency.scales)  # the finest scale
    return SeedMaps(folder, seed, lambda i: network.logits(read_pixels(i), size)[list(i.labels)])
