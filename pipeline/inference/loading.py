"""From the folder of a run, or of its segmenter, to a network that labels photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import DataError
from pipeline.data.bands import Bands
from pipeline.data.headers import MAX_MEGAPIXELS
from pipeline.inference.exported import PROGRAMS, SUFFIX, read_exported
from pipeline.inference.network import Network, Passes, device_named
from pipeline.inference.records import corrected, evaluated, evaluations, made, network_record
from pipeline.inference.tiles import Tiling
from pipeline.masks.refine import Refinement, on_device, with_features, with_pictures
from pipeline.networks.features import NetworkFeatures
from pipeline.stages.trained import load_classifier, load_segmenter
from pipeline.tasks.predictor import ClassifierPrior
from pipeline.tasks.segmenter import SegmenterTask, corrected_in

if TYPE_CHECKING:
    from pipeline.run.lineage import Record


@dataclass(frozen=True)
class Use:
    """How a network is used; None for what the run itself was evaluated with.

    Attributes:
        scales: Scales of the photo; probabilities are averaged over them.
        flip: Average over the mirrored photo too.
        refine: Align the probabilities with edges, by the run's refinement.
        prior: Multiply by the odds that the run's classifier gives each class, at most 1.
        tiling: Predict in overlapping tiles.
        max_megapixels: Larger files are refused before they are decoded.
    """

    scales: tuple[float, ...] | None = None
    flip: bool | None = None
    refine: bool | None = None
    prior: bool | None = None
    tiling: Tiling | None = None
    max_megapixels: float = MAX_MEGAPIXELS


def load(path: Path | str, use: Use | None = None, *, device: str = "auto") -> Network:
    """The trained network of a run.

    Args:
        path: Folder of a run, folder of its stage `segmentation`, a checkpoint that it wrote, or
            a file ``.safetensors`` that `tsgb export` wrote.
        use: How the network is used.
        device: Such as ``cpu`` or ``cuda``; ``auto`` takes a GPU if there is one.

    Raises:
        ConfigError: This machine has no such device.
        DataError: The file is damaged, or none of a segmenter.
        MissingArtifactError: There is no finished network, there are several, or ``use`` needs a
            stage that is gone.
    """
    place, use = Path(path).expanduser(), use or Use()
    if place.is_file():
        segmenter, known = _in_file(place)
        return _network(segmenter, known, use, device, place)
    record = network_record(place)
    segmenter = load_segmenter(record.path)
    known = {**evaluated(record), "corrected_masks": corrected(record)}
    return _network(segmenter, known, use, device, record.path, record)


def _in_file(path: Path) -> tuple[SegmenterTask, Mapping[str, Any]]:
    """The segmenter in a checkpoint or an exported file, and what is known of it."""
    if path.suffix == SUFFIX:
        return read_exported(path)
    if path.suffix in PROGRAMS:
        raise DataError(
            f"{path}: a program, which this project does not execute. {PROGRAMS[path.suffix]}; or "
            "name the run, or a file of `tsgb export --format safetensors`."
        )
    return SegmenterTask.from_checkpoint(path), {"corrected_masks": len(corrected_in(path))}


def _network(
    segmenter: SegmenterTask,
    known: Mapping[str, Any],
    use: Use,
    device: str,
    source: Path,
    record: Record | None = None,
) -> Network:
    scales = tuple(known.get("scales", (1.0,))) if use.scales is None else use.scales
    flip = bool(known.get("flip")) if use.flip is None else use.flip
    prior = bool(known.get("classifier_prior")) if use.prior is None else use.prior
    refine = bool(known.get("refine")) if use.refine is None else use.refine
    return Network(
        segmenter,
        Passes(scales, flip, use.tiling),
        prior=ClassifierPrior(load_classifier(made(record, "classifier").path)) if prior else None,
        refine=_refinement(record, segmenter.bands, device) if refine else None,
        device=device,
        max_megapixels=use.max_megapixels,
        source=str(source),
        corrected_masks=int(known.get("corrected_masks", 0)),
    )


def _refinement(record: Record | None, bands: Bands | None, device: str) -> Refinement:
    """The refinement of the run's evaluation, or else that of its pseudo-masks."""
    from pipeline.run.shipped import build_recorded

    scored = [stage.settings["refine"] for stage in evaluations(record)] if record else []
    node = next((refine for refine in reversed(scored) if refine), None)
    node = node or made(record, "pseudo_labels").settings["refine"]

    @cache
    def features() -> NetworkFeatures:
        task = load_classifier(made(record, "classifier").path)
        return NetworkFeatures(task.network.eval().to(device_named(device)), task.colours)

    refine = build_recorded(node, f"{record.path if record else ''}: refine")
    refine = with_features(on_device(refine, str(device_named(device))), features)
    return with_pictures(refine, bands.picture) if bands else refine
