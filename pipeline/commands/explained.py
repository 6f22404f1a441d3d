"""The network that is explained: the run's classifier, a checkpoint, or one of a library."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.base.errors import ConfigError
from pipeline.networks.explained import ExplainedNetwork, OwnPreprocessing
from pipeline.run.executor import Step, require
from pipeline.run.run import Run
from pipeline.run.table import STAGES
from pipeline.stages.trained import given_classifier, load_classifier
from pipeline.tasks.classifier import ClassifierTask
from tsgb._optional import LIBRARIES
from tsgb.explain.classifier import Classifier, library_classifier
from tsgb.explain.networks import NetworkError
from tsgb.explain.state_dicts import WeightsError


def own_model(run: Run, checkpoint: str | None, who: str) -> ExplainedNetwork:
    """The run's classifier, or the one in a checkpoint.

    Args:
        run: Run whose classifier it is, and whose layer names are translated.
        checkpoint: Path of a file that ``stage=classifier`` wrote; None takes the run's own.
        who: Group of the setting, for messages.

    Raises:
        ConfigError: The file does not exist.
        MissingArtifactError: The run has no classifier yet.
    """
    given = checkpoint and given_classifier(checkpoint, f"{who}.checkpoint")
    task = given or _own(run)
    ours, theirs = run.settings.classifier, task.settings
    same = {ours.middle_layer: theirs.middle_layer, ours.last_layer: theirs.last_layer}
    return ExplainedNetwork(classifier_of(task), lambda layer: same.get(layer, layer))


def classifier_of(task: ClassifierTask) -> Classifier:
    """A trained classifier as ``tsgb explain`` and ``stage=explain`` both ask it.

    Raises:
        ConfigError: It was trained on bands, which these commands do not read.
    """
    if task.bands is not None:
        raise ConfigError(about_photos(task.bands.words))
    size = task.settings.size
    return Classifier(
        name=task.title,
        network=task.network,
        classes=task.classes,
        preprocessing=OwnPreprocessing(
            size, size, task.colours.mean, task.colours.deviation, "bilinear"
        ),
        probabilities=torch.sigmoid,
    )


def about_photos(bands: str) -> str:
    """Why a classifier of these bands is not explained."""
    return (
        f"explain: this classifier sees {bands}, and explanations are made of photos. Its maps are "
        "in the report of its run: tsgb run run_dir=RUN stage=report."
    )


def _own(run: Run) -> ClassifierTask:
    step = Step(run, STAGES["classifier"])
    require(step)
    return load_classifier(step.folder.path)


def library_model(run: Run, model: str, weights: str, who: str) -> ExplainedNetwork:
    """A network of torchvision or timm with its own head; the data set is not touched.

    Args:
        run: Run whose classifier's layer names are translated.
        model: ``torchvision/NAME`` or ``timm/NAME``.
        weights: download, none, or the path of a state dict.
        who: Group of the settings, for messages.

    Raises:
        ConfigError: The library has no such network, or the weights do not fit.
    """
    library, _, name = model.partition("/")
    if library not in LIBRARIES or not name:
        raise ConfigError(
            f"{who}.model: {model!r} does not name a network. "
            "Give torchvision/NAME or timm/NAME, for example torchvision/resnet50."
        )
    try:
        found = library_classifier(library, name, weights)
    except NetworkError as error:
        raise ConfigError(f"{who}.model: {error}") from error
    except WeightsError as error:
        raise ConfigError(f"{who}.model_weights: {error}") from error
    known = frozenset(dict(found.network.named_modules()))
    return ExplainedNetwork(found, _Translation(run, model, known))


@dataclass(frozen=True)
class _Translation:
    """Names of the layers of the run's classifier in a whole network of a library.

    The layer ``backbone.13`` is ``features.13`` or ``13`` of the same network before it was cut.
    Another network does not have it.
    """

    run: Run
    model: str
    known: frozenset[str]

    def __call__(self, layer: str) -> str | None:
        if layer in self.known:
            return layer
        config = self.run.settings.classifier
        if self.model != f"{config.library}/{config.backbone}":
            return None
        own = layer.removeprefix("backbone.")
        return next((name for name in (f"features.{own}", own) if name in self.known), None)
