"""The refinement that a run asks for, with the run's classifier where it needs a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import nn

from pipeline.base.config import TrainerConfig
from pipeline.masks.refine import Refinement, on_device, with_features, with_pictures
from pipeline.networks.colours import Colours
from pipeline.networks.device import device_of
from pipeline.networks.features import NetworkFeatures
from pipeline.stages.job import Job
from pipeline.stages.trained import load_classifier


def refinement(job: Job, reader: Callable[[], NetworkFeatures] | None = None) -> Refinement:
    """What ``refine`` describes.

    Args:
        job: With the settings.
        reader: Called by a step that asks for features; None reads the run's trained classifier.

    Returns:
        A refiner of what ``read_pixels`` returns.
    """
    refine: Refinement = job.build(job.settings.refine, "refine")
    placed = on_device(refine, device_of(job.settings.trainer))
    bound = with_features(placed, reader or shared_features(job))
    return with_pictures(bound, job.data.bands.picture) if job.data.bands else bound


def shared_features(job: Job) -> Callable[[], NetworkFeatures]:
    """Reads the run's trained classifier; the first call loads it, later ones share it."""

    def load() -> NetworkFeatures:
        task = load_classifier(job.inputs["classifier"])
        return features(task.network, task.colours, job.settings.trainer)

    return cache(load)


def features(network: nn.Module, colours: Colours, settings: TrainerConfig) -> NetworkFeatures:
    """Reads ``network`` on the run's device."""
    return NetworkFeatures(network.eval().to(device_of(settings)), colours)
