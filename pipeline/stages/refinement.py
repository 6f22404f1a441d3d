"""The refinement that a run asks for, with the run's classifier where it needs a network."""

from __future__ import annotations

from functools import cache

from torch import nn

from pipeline.masks.refine import Refinement, with_features
from pipeline.stages import classifier
from pipeline.stages.context import Run, build
from pipeline.stages.training import on_gpu
from pipeline.tasks.features import NetworkFeatures


def refinement(run: Run, network: nn.Module | None = None) -> Refinement:
    """What ``refine`` describes.

    Args:
        run: With the settings.
        network: What features are read from; None is the run's trained classifier, which is
            loaded if a step asks for features.

    Raises:
        ConfigError: Settings that a step does not know, or layers that the network does not have.
    """
    reader = cache(lambda: features(run, network))
    return with_features(build(run.config.refine, "refine"), reader)


def features(run: Run, network: nn.Module | None = None) -> NetworkFeatures:
    """Reads ``network``, or the run's trained classifier, on the run's device."""
    trained = classifier.load(run).network if network is None else network
    device = "cuda" if on_gpu(run.config.trainer) else "cpu"
    return NetworkFeatures(trained.eval().to(device))
