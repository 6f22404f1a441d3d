"""Settings that cannot work, found before any work is done."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from pipeline.base.config import (
    CORRECTED,
    GROUND_TRUTH,
    PSEUDO,
    MaskedSplit,
    SeedConfig,
)
from pipeline.base.errors import ConfigError, DataError, at_most
from pipeline.base.ranks import here
from pipeline.data.catalogue import BACKGROUND, VOID, Split
from pipeline.data.checks import look_at_label_images, require_labels
from pipeline.masks.refine import with_features
from pipeline.masks.seed import compete, with_background
from pipeline.networks.backbones import ClassifierNet, build_classifier, library_network
from pipeline.networks.colours import IMAGENET, with_colours
from pipeline.networks.device import check_trainer
from pipeline.run.building import build
from pipeline.run.context import RunContext
from pipeline.run.manifest import Manifest
from pipeline.stages.corrected import without
from pipeline.stages.predictions import evaluated_split, predictions_folder
from pipeline.stages.refinement import features
from pipeline.stages.trained import given_segmenter
from pipeline.tasks.optimisation import build_optimizer
from pipeline.tasks.segmenter import SegmenterTask, corrected_in, initial_encoder_weights

_TOY = "test_resnet"
_DRAWN = (
    "pipeline.data.shapes.load_shapes",
    "pipeline.data.defects.load_defects",
    "pipeline.data.spectra.load_bands",
)
_WORDS = ("none", "download", "classifier")  # for weights that are not files


class Checks:
    """Checks of the settings of one run, a method a stage; each raises what is wrong.

    Raises:
        ConfigError: A setting, or a combination of settings, that cannot work.
        DataError: Data that lack what a setting asks for.
    """

    def __init__(self, run: RunContext) -> None:
        self.run = run
        self.settings = run.settings

    @cached_property
    def network(self) -> ClassifierNet:
        """The classifier as it is before any weights are read or learned."""
        config = self.settings.classifier
        data = self.run.data
        channels = data.bands.channels if data.bands else 3
        return build_classifier(
            config.library, config.backbone, "none", len(data.classes), channels
        )

    def trainer(self) -> None:
        """What every stage needs of the machine."""
        check_trainer(self.settings.trainer)

    def classifier(self) -> None:
        """Network, weights, layers."""
        config = self.settings.classifier
        self._warn_of_toy_recipe()
        self._batch("classifier", config.batch_size)
        self._check_measured()
        self._warn_of_frozen_first_layer()
        with_colours(config, bands=self.run.data.bands)  # which checks what is given
        _check_frozen("classifier", config.freeze_until, config.weights)
        if config.weights not in _WORDS:
            library_network(config.library, config.backbone, config.weights)
        layers = dict(self.network.named_modules())
        for name in ("middle_layer", "last_layer"):
            layer = getattr(config, name)
            if layer not in layers:
                top = (f"backbone.{name}" for name, _ in self.network.backbone.named_children())
                raise ConfigError(
                    f"classifier.{name}: {config.backbone} has no layer {layer!r}. Its top layers "
                    f"are {', '.join(top)}."
                )

    def _warn_of_toy_recipe(self) -> None:
        """The defaults are made for the built-in pictures; on photos they are a toy."""
        config, data = self.settings.classifier, self.run.data
        if config.backbone == _TOY and self.settings.data["_target_"] not in _DRAWN:
            self.run.terminal.warn(
                f"the recipe is that of the built-in pictures: classifier.backbone={_TOY} learns "
                f"from noise at {config.size} px. For photos such as those of {data.name}, add "
                "experiment=photos to the command"
            )

    def _check_measured(self) -> None:
        """Mean and deviation of bands come from the images, for both networks alike."""
        groups = {"classifier": self.settings.classifier, "segmenter": self.settings.segmenter}
        given = [
            f"{group}.{name}"
            for group, config in groups.items()
            for name in ("mean", "deviation")
            if getattr(config, name) is not None
        ]
        if given and self.run.data.bands is not None:
            raise ConfigError(
                f"{', '.join(given)}: with data.channels, mean and deviation are measured on the "
                "training images. Leave these settings out."
            )

    def _warn_of_frozen_first_layer(self) -> None:
        """A first layer that was made for bands has to learn what they show."""
        config, bands = self.settings.classifier, self.run.data.bands
        if bands is not None and config.weights != "none" and config.freeze_until:
            self.run.terminal.warn(
                f"classifier.freeze_until={config.freeze_until} keeps the first layer, and "
                f"its weights for {bands.channels} bands are copies of those for red, green and "
                "blue. Let it learn: classifier.freeze_until='' classifier.freeze_batchnorm=false"
            )

    def saliency(self) -> None:
        """Sizes, method, split, number of images."""
        config = self.settings.saliency
        if config.split == MaskedSplit.val:
            require_labels(self.run.data.val, "saliency.split=val")
        build({**config.method, "model": self.network.eval()}, "saliency.method")

    def pseudo_labels(self) -> None:
        """Thresholds and refinement."""
        _ = self.run.chosen_classes  # which checks them
        check_thresholds(self.settings.seed)
        self._refinement()

    def segmentation(self) -> None:
        """Numbers, network, weights, labels, loss."""
        data = self.run.data
        self._check_measured()
        config = with_colours(self.settings.segmenter, self.settings.classifier, data.bands)
        self._batch("segmenter", config.batch_size)
        _check_frozen("segmenter", config.freeze_until, config.weights)
        self._labels()
        self._corrected()
        weights = "none" if config.weights == "download" else config.weights
        untrained = replace(config, weights=weights)
        task = SegmenterTask.from_config(untrained, data.classes, data.bands)
        tensors = initial_encoder_weights(config)
        if config.weights == "classifier":
            self._continued(task)
        if tensors is not None:
            task.load_encoder(tensors, f"segmenter.weights={config.weights}")
        build_optimizer(config, task.parameters(), [])
        self._loss()

    def _continued(self, task: SegmenterTask) -> None:
        """The encoder goes on from the classifier."""
        encoder, backbone = self.settings.segmenter.encoder, self.settings.classifier.backbone
        try:
            task.load_encoder(self.network.state_dict(), "segmenter.weights=classifier")
        except ConfigError as error:
            raise ConfigError(
                f"segmenter.weights=classifier: the encoder {encoder} is another network than the "
                f"classifier's {backbone}. Choose the segmenter that belongs to it "
                "(segmenter=deeplabv3plus for mobilenet_v2, segmenter=deeplabv3plus_timm for "
                "networks of timm), or segmenter.weights=none."
            ) from error

    def relabel(self) -> None:
        """Scales and confidence."""
        config = self.settings.relabel
        if config.refine:
            self._refinement()

    def evaluate(self) -> None:
        """Split, classes, given masks or checkpoint."""
        config, data = self.settings.evaluate, self.run.data
        _ = self.run.chosen_classes  # which checks them
        split = evaluated_split(config, data)
        if config.label_oracle:
            require_labels(split, "evaluate.label_oracle=true")
        if config.checkpoint is not None:
            given_segmenter(config.checkpoint, "evaluate.checkpoint", data)
        if config.masks is not None:
            self._given("evaluate.masks", predictions_folder(config, Path()), split)
        else:
            self._something_to_score(split)
        if config.refine:
            self._refinement()

    def _batch(self, group: str, batch_size: int) -> None:
        """Whether each process has an image in every step."""
        images, processes = len(self.run.data.train.items), here().size
        if min(batch_size, images) < processes:
            raise ConfigError(
                f"{group}.batch_size={batch_size}: the step of all processes together, with "
                f"{images} images; {processes} processes cannot share it. Start fewer, or choose "
                f"{group}.batch_size={processes} or more."
            )

    def _something_to_score(self, split: Split) -> None:
        """Raise if the network learned the real mask of every image of the split."""
        given, own = self.settings.evaluate.checkpoint, self.run.corrected
        learned = tuple(own.names) if own else ()
        if given is not None:
            learned = corrected_in(Path(given).expanduser())
        if split.items and not without(split, learned).items:
            raise ConfigError(
                f"evaluate.split: the network learns corrected masks of all {len(split.items)} "
                f"images of {split.name!r}, so that none is left to score. Choose another split."
            )

    def _refinement(self) -> None:
        """Build the refinement, with the untrained network where it looks with one."""
        refine = build(self.settings.refine, "refine")
        with_features(refine, lambda: features(self.network, IMAGENET, self.settings.trainer))

    def _labels(self) -> None:
        """Whether there is a label image for every training image."""
        config, data = self.settings.segmenter, self.run.data
        if config.labels == PSEUDO:
            self._pseudo_masks()
        elif config.labels == GROUND_TRUTH:
            without = [item.id for item in data.train.items if item.mask is None]
            if without:
                raise DataError(
                    f"segmenter.labels=ground_truth: {len(without)} of {len(data.train.items)} "
                    f"images of {data.train.name!r} have no mask, the first is {without[0]!r}. "
                    "Set segmenter.twin=false, or give masks for all of them (on VOC: "
                    "data.train_masks=SegmentationClassAug)."
                )
        else:
            folder = Path(config.labels).expanduser()
            if not folder.is_dir():
                raise ConfigError(
                    f"segmenter.labels: {config.labels!r} is not a folder. Choose {PSEUDO}, "
                    f"{GROUND_TRUTH}, or a folder of label images <id>.png."
                )
            problems = self._given("segmenter.labels", folder, data.train)
            if problems:
                raise DataError(
                    f"segmenter.labels: {len(problems)} problem(s).\n{at_most(problems)}"
                )

    def _corrected(self) -> None:
        """Corrected masks, which pseudo-masks make room for; what may be a mistake is said."""
        place = self.settings.data.get(CORRECTED)
        if place is not None and self.settings.segmenter.labels == GROUND_TRUTH:
            raise ConfigError(
                f"data.corrected={place} with segmenter.labels=ground_truth: a network that learns "
                "from ground truth has no pseudo-masks to correct. Add data.corrected=null."
            )
        for note in self.run.corrected.notes if self.run.corrected else ():
            self.run.terminal.warn(note)

    def _pseudo_masks(self) -> None:
        config = self.settings.saliency
        if config.split != MaskedSplit.train or config.images is not None:
            setting, value = ("images", config.images) if config.images else ("split", config.split)
            raise ConfigError(
                f"saliency.{setting}: {value}. Only some images have masks then, or images that "
                "the segmenter is tested on. Set saliency.split=train saliency.images=null, or "
                "stop at the masks with stage=masks."
            )

    def _given(self, setting: str, folder: Path, split: Split) -> list[str]:
        """Whether there is a label image for every image, and whether they fit the labels.

        Returns:
            Problems of single files.
        """
        items = [replace(i, mask=folder / f"{i.id}.png", object_value=1) for i in split.items]
        missing = [f"{i.id}: no {i.mask}" for i in items if i.mask and not i.mask.is_file()]
        if missing:
            raise DataError(
                f"{setting}: {len(missing)} of {len(items)} images of {split.name!r} have no label "
                "image. Add them, or choose a split that lists only what is there.\n"
                f"{at_most(missing)}"
            )
        problems, contradiction = look_at_label_images(items, self.run.data)
        made_here = Manifest.read(folder.parent) is not None  # values of its own cannot be wrong
        if contradiction and not made_here:
            raise DataError(f"{setting}: {contradiction}")
        return problems

    def _loss(self) -> None:
        """Let the loss judge two pixels, one of them void."""
        node = self.settings.segmenter.loss
        loss = build(node, "segmenter.loss")
        logits = torch.zeros(1, len(self.run.data.classes) + 1, 1, 2)
        try:
            value = float(loss(logits, torch.tensor([[[BACKGROUND, VOID]]])))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"segmenter.loss: {node['_target_']} cannot judge logits [B, L, H, W] and labels "
                f"[B, H, W] with void as {VOID} ({error}). Give its multi-class form and "
                f"ignore_index={VOID}, as in 'segmenter.loss={{_target_: "
                "segmentation_models_pytorch.losses.DiceLoss, mode: multiclass, "
                f"ignore_index: {VOID}}}'."
            ) from error
        if not np.isfinite(value):
            raise ConfigError(
                f"segmenter.loss: {node['_target_']} is {value} for one background and one void "
                f"pixel. Give it ignore_index={VOID}."
            )


def check_thresholds(seed: SeedConfig) -> None:
    """Raise unless 0 < background <= threshold <= foreground < 1 and the rest is in its range."""
    if not 0 < seed.background <= seed.threshold <= seed.foreground < 1:
        raise ConfigError(
            f"seed: background={seed.background}, threshold={seed.threshold}, "
            f"foreground={seed.foreground} are not in order. "
            "Choose 0 < background <= threshold <= foreground < 1."
        )
    nothing = np.zeros((0, 1, 1), np.float32)
    with_background(nothing, seed.threshold, seed.plane)
    if seed.competition:
        compete(nothing, nothing, seed.competition)


def _check_frozen(group: str, layer: str, weights: str) -> None:
    if layer and weights == "none":
        raise ConfigError(
            f"{group}.freeze_until: {layer!r} with {group}.weights=none. Layers before it would "
            f"stay random. Give weights, or let all layers learn: {group}.freeze_until=''."
        )
