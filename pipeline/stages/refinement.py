"""The refinement that a run asks for, with the run's classifier where it needs a network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import nn

from pipeline.masks.refine import Refinement, with_features
from pipeline.stages import classifier
from pipeline.stages.context import Run, build
from pipeline.stages.training import on_gpu
from pipeline.tasks.features import NetworkFeatures


def refinement(run: Run, reader: Callable[[], NetworkFeatures] | None = None) -> Refinement:
    """What ``refine`` describes.

    Args:
        run: With the settings.
        reader: Called by a step that asks for features; None reads the run's trained classifier.

    Raises:
        ConfigError: Settings that a step does not know, or layers that the network does not have.
    """
    return with_features(build(run.config.refine, "refine"), reader or shared_features(run))


def shared_features(run: Run) -> Callable[[], NetworkFeatures]:
    """Reads the run's trained classifier, which is loaded by the first call, for all that ask."""
    return cache(lambda: features(run, classifier.load(run).network))


def features(run: Run, network: nn.Module) -> NetworkFeatures:
    """Reads ``network`` on the run's device."""
    device = "cuda" if on_gpu(run.config.trainer) else "cpu"
    return NetworkFeatures(network.eval().to(device))
