"""Stage `relabel`: the segmenter labels the images that it learned from, their classes given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.base.arrays import Floats
from pipeline.base.files import write_bytes
from pipeline.base.ranks import first, share
from pipeline.data.catalogue import VOID, Item
from pipeline.data.palette import encode_label_image
from pipeline.data.pixels import read_pixels
from pipeline.masks.refine import NoRefinement, Refinement
from pipeline.masks.seed import label_image
from pipeline.stages.corrected import learned_corrected, pass_on
from pipeline.stages.failures import raise_if_any
from pipeline.stages.job import Job, Summary
from pipeline.stages.label_images import KINDS, are_made, mask_path
from pipeline.stages.prediction import predict
from pipeline.stages.refinement import refinement
from pipeline.stages.trained import load_segmenter
from pipeline.tasks.predictor import LabelledPredictor


def work(job: Job) -> Summary:
    """Write three label images of every image of ``train``, as `pseudo_labels` does.

    ``seeds/``: what the segmenter takes for the most probable among background and the classes in
    the image's label. ``refined/``: the same after refinement. ``masks/``: void where the
    segmenter itself is not sure of that; another segmenter can learn these.
    """
    config, items = job.settings.relabel, job.data.train.items
    refine = refinement(job) if config.refine else NoRefinement()
    maker = _Maker(job.folder, config.min_confidence, refine)
    missing = [item for item in share(items) if not are_made(job.folder, item)]
    failures = predict(job, partial(_predictor, job), missing, maker.make)
    raise_if_any(failures, len(items), "relabel")
    learned = learned_corrected(job)
    first(lambda: pass_on(job.folder, learned))
    return {"images": len(items), "corrected_masks": len(learned)}


@dataclass(frozen=True)
class _Maker:
    """Label images of one image, written as files."""

    folder: Path
    min_confidence: float
    refine: Refinement

    def make(self, item: Item, probabilities: Floats) -> None:
        refined = self.refine(read_pixels(item), [probabilities])[0]
        labels = label_image(refined, item.labels)
        # Not the refined probabilities: a CRF's are near 1, right or wrong.
        own = np.take_along_axis(probabilities, refined.argmax(axis=0)[None], axis=0)[0]
        sure = own >= self.min_confidence
        images = (
            label_image(probabilities, item.labels),
            labels,
            np.where(sure, labels, np.uint8(VOID)),
        )
        for kind, content in zip(KINDS, images, strict=True):
            write_bytes(mask_path(self.folder, kind, item), encode_label_image(content))


def _predictor(job: Job) -> LabelledPredictor:
    config, network = job.settings.relabel, load_segmenter(job.inputs["segmentation"])
    return LabelledPredictor(network, config.scales, flip=config.flip)
