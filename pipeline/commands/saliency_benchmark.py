"""Any saliency methods on the same images under one classifier: a table, a page of maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from pipeline.base.config import Truth
from pipeline.base.errors import ConfigError, PipelineError, StageIncompleteError
from pipeline.base.files import file_fingerprint, fingerprint, write_bytes
from pipeline.base.spelling import named
from pipeline.base.terminal import ToPaste
from pipeline.commands.explained import library_model, own_model
from pipeline.data.catalogue import BACKGROUND, VOID, Item, Split, spaced
from pipeline.data.truth import masks_of
from pipeline.networks.device import check_trainer, device_of
from pipeline.networks.explained import ExplainedNetwork, fitted
from pipeline.networks.pixels import scaled_size
from pipeline.report import page
from pipeline.report.benchmark_page import Result, blocks, csv_rows, summary_lines
from pipeline.report.gallery import Gallery, PictureFiles, Shown
from pipeline.report.page import Section
from pipeline.report.rendering import csv_table
from pipeline.run.building import build
from pipeline.run.executor import make
from pipeline.run.folders import StageFolder
from pipeline.run.manifest import MANIFEST
from pipeline.run.provenance import made_by
from pipeline.run.run import Run
from pipeline.run.schema import CONFIGS
from pipeline.stages import benchmark_method
from pipeline.stages.benchmark_method import BenchmarkSetup, box_path, read_maps
from pipeline.stages.job import Job, Summary
from pipeline.stages.predictions import named_split
from tsgb.errors import UnsupportedModelError
from tsgb.explain.classifier import ClassifierError
from tsgb.metrics import randomised

METHODS = CONFIGS / "saliency"
_HINT = (
    "Images are evenly spaced over the list, not chosen by score. Maps show the positive part, "
    "from transparent (zero) over red to light yellow (the map's maximum). The ground truth was "
    "used for scores only."
)
CENTRE = "centre"  # the yardstick that is always there
_BOX = "the union of the boxes of VOC's annotations"
_MASK = "the ground-truth masks; void pixels left out"

Settings = dict[str, Any]


def run(run: Run) -> None:
    """Score every method, or take its scores from an earlier run; then write table and page.

    Raises:
        StageIncompleteError: Some images failed; everything else is written.
    """
    methods = check_settings(run)
    setup = _setup(run)
    problems: list[str] = []
    stages: dict[str, StageFolder] = {}
    for name, settings in methods.items():
        stages[name] = _folder(run, setup, name, settings)
        try:
            make(run, stages[name], partial(_score, run, setup, name, settings))
        except StageIncompleteError as error:
            problems.append(str(error))
    _write(run, setup, stages)
    if problems:
        raise StageIncompleteError("\n".join(problems))


def _folder(run: Run, setup: BenchmarkSetup, name: str, settings: Settings) -> StageFolder:
    """Where the scores of a method are, or will be; independent of the other methods."""
    network, upstream = _origin(run)
    choices = {
        "method": fitted(settings, setup.explained),
        "benchmark": replace(
            run.settings.benchmark,
            methods=[], checkpoint=None, model=None, class_map=None, model_weights="",
        ),
        "network": network,
        "items": [item.id for item in setup.items],
        "outputs": {str(label): list(found) for label, found in setup.outputs.items()},
        "ground_truth": setup.truth_version,
    }  # fmt: skip
    word, module = f"{name}_{_network_word(run)}", benchmark_method.__name__
    return run.folder_of("saliency_benchmark", word, module, upstream, choices)


def _score(run: Run, setup: BenchmarkSetup, name: str, settings: Settings) -> Summary:
    folder = _folder(run, setup, name, settings).path
    job = Job(run.settings, run.data, folder, {}, run.terminal, build)
    return benchmark_method.work(job, setup, name, settings)


def _network_word(run: Run) -> str:
    """For names of folders: classifier, or the network of a library."""
    return (run.settings.benchmark.model or "classifier").rpartition("/")[2]


def check_settings(run: Run) -> dict[str, Settings]:
    """The methods by name, once every setting that can be checked before any work was.

    Raises:
        ConfigError: A method, a split or a number that does not exist or cannot work.
    """
    config = run.settings.benchmark
    if run.data.bands is not None:
        raise ConfigError(
            f"stage=saliency_benchmark: compares methods on photos, and the data have "
            f"{run.data.bands.words}. The seed's mIoU of runs with other methods compares them too."
        )
    if not config.methods:
        raise ConfigError(
            "benchmark.methods: empty. There is nothing to compare. "
            "Name files of configs/saliency, as in benchmark.methods=[tsgb,grad_cam]."
        )
    return {Path(name).stem: _settings(run, name) for name in config.methods} | {
        CENTRE: {"_target_": "pipeline.stages.map_scores.Centre"}
    }


def _settings(run: Run, name: str) -> Settings:
    """The ``method`` of a saliency YAML, its references resolved in this run's configuration."""
    path = Path(name).expanduser() if name.endswith(".yaml") else METHODS / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in METHODS.glob("*.yaml"))
        raise ConfigError(
            f"benchmark.methods: {name!r} is neither a method nor a .yaml file. "
            f"{named(name, known)}"
        )
    try:
        values = {**asdict(run.settings), "saliency": OmegaConf.load(path)}
        method = OmegaConf.to_container(OmegaConf.create(values).saliency.method, resolve=True)
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise ConfigError(
            f"benchmark.methods: {path} cannot be used ({error}). It needs a `method` with a "
            "_target_, as the files in configs/saliency have."
        ) from error
    return {str(key): value for key, value in dict(method).items()}  # type: ignore[arg-type]


def _setup(run: Run) -> BenchmarkSetup:
    config = run.settings.benchmark
    device = _device(run)
    if config.model is None:
        explained = own_model(run, config.checkpoint, "benchmark")
        outputs = _own_outputs(run, explained)
    else:
        explained = library_model(run, config.model, config.model_weights, "benchmark")
        outputs = _mapped_outputs(run, explained)
    explained.classifier.network.to(device)
    items, truth = _items(run, _split(run), outputs)
    untrained = _untrained(explained.classifier.network)
    return BenchmarkSetup(explained, items, outputs, truth, device, untrained)


def _untrained(network: nn.Module) -> nn.Module | None:
    try:
        return randomised(network)
    except UnsupportedModelError:
        return None


def _origin(run: Run) -> tuple[Settings, list[StageFolder]]:
    """The settings and the stages that the network was made from."""
    config = run.settings.benchmark
    if config.model is not None:
        path = Path(config.model_weights).expanduser()
        weights = file_fingerprint(path) if path.is_file() else config.model_weights
        return {"model": config.model, "weights": weights}, []
    if config.checkpoint is not None:
        return {"checkpoint": file_fingerprint(Path(config.checkpoint).expanduser())}, []
    return {}, [run.stage("classifier")]


def _device(run: Run) -> torch.device:
    check_trainer(run.settings.trainer)
    return torch.device(device_of(run.settings.trainer))


def _own_outputs(run: Run, explained: ExplainedNetwork) -> Mapping[int, Sequence[int]]:
    index = {name: k for k, name in enumerate(explained.classifier.classes)}
    unknown = [name for name in run.data.classes if name not in index]
    if unknown:
        raise ConfigError(
            f"benchmark.checkpoint: the classifier does not know {', '.join(unknown)} of "
            f"{run.data.name}. Their maps could not be asked for. Choose the data that it was "
            "trained on."
        )
    return {k: [index[name]] for k, name in enumerate(run.data.classes)}


def _mapped_outputs(run: Run, explained: ExplainedNetwork) -> Mapping[int, Sequence[int]]:
    config, names = run.settings.benchmark, run.data.classes
    given = config.class_map if isinstance(config.class_map, Mapping) else {}
    network = explained.classifier
    side = scaled_size(1, 1, config.size or network.preprocessing.size)
    try:
        count = network.logits(torch.zeros(1, 3, *side)).shape[1]
    except ClassifierError as error:
        raise ConfigError(f"benchmark.model: {error}") from error
    found = {
        names.index(name): _indices(name, ranges, count)
        for name, ranges in given.items()
        if name in names
    }
    if not found:
        raise ConfigError(
            f"benchmark.class_map: names no class of {run.data.name} "
            f"({', '.join(names)}), so that no logit of {network.name} can be scored. Add "
            "benchmark=imagenet_voc for the classes of VOC, or benchmark.class_map={cat:[281-285]}."
        )
    return found


def _indices(name: str, ranges: Sequence[str], count: int) -> list[int]:
    """``["7", "9-11"]`` as 7, 9, 10, 11.

    Example:
        >>> _indices("bird", ["7", "9-11"], 1000)
        [7, 9, 10, 11]
    """
    try:
        ends = [(part.split("-")[0], part.split("-")[-1]) for part in map(str, ranges)]
        indices = [k for first, last in ends for k in range(int(first), int(last) + 1)]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"benchmark.class_map.{name}: {ranges} cannot be read ({error}). "
            "Give indices from 0 and ranges of them, as in [7, 151-268]."
        ) from error
    if not indices or not all(0 <= k < count for k in indices):
        raise ConfigError(
            f"benchmark.class_map.{name}: {ranges} does not lie within the {count} classes "
            f"of the network. Use 0 to {count - 1}."
        )
    return indices


def _split(run: Run) -> Split:
    return named_split(run.settings.benchmark.split, run.data)


def _items(run: Run, split: Split, outputs: Mapping[int, Any]) -> tuple[list[Item], str | None]:
    """Images with a class that can be asked for and with ground truth, and its fingerprint."""
    config = run.settings.benchmark
    items = [item for item in split.items if any(label in outputs for label in item.labels)]
    if config.truth == Truth.boxes:
        items = [item for item in items if box_path(config.annotations, item).is_file()]
    elif config.truth == Truth.masks and any(item.mask is not None for item in items):
        items = [item for item in items if item.mask is not None]
    items = spaced(items, config.images)
    if not items:
        raise ConfigError(
            f"benchmark: no image of {split.name} can be scored (truth={config.truth}). There is "
            "nothing to compare methods on. Choose another benchmark.split or benchmark.truth, or "
            "the folder of the boxes with benchmark.annotations."
        )
    return items, _truth_version(run, items)


def _truth_version(run: Run, items: Sequence[Item]) -> str | None:
    config = run.settings.benchmark
    if config.truth == Truth.boxes:
        paths = [(item.id, box_path(config.annotations, item)) for item in items]
        return fingerprint([(name, file_fingerprint(path)) for name, path in paths])
    if config.truth == Truth.none or items[0].mask is None:
        return None
    return run.truth_version(Split("", tuple(items)))


def _write(run: Run, setup: BenchmarkSetup, stages: Mapping[str, StageFolder]) -> None:
    results = [
        Result(name, stage.summary if stage.is_done else {"unfinished": True}, name == CENTRE)
        for name, stage in stages.items()
    ]
    config, finished = run.settings.benchmark, {n: s for n, s in stages.items() if s.is_done}
    folder = run.output / "saliency_benchmark" / f"{_network_word(run)}_{_split(run).name}"
    gallery = _gallery(run, spaced(setup.items, config.pictures), finished, folder / "index.html")
    colours = page.legend(run.data.classes)
    content = page.Page(
        f"Saliency on {run.data.name}, {_split(run).name}", str(folder), page.now(),
        [
            Section("Scores", blocks(results, config.threshold), "Scores"),
            Section("Maps", [page.Pictures(gallery, colours)] if gallery.images else [], "Maps"),
            Section("How it was made", [page.Facts(_notes(run, setup))], "How"),
        ],
    )  # fmt: skip
    write_bytes(folder / "index.html", page.render(content).encode())
    write_bytes(folder / "table.csv", csv_table(csv_rows(results)).encode())
    write_bytes(folder / "table.md", page.as_markdown(content).encode())
    for line in summary_lines(results, config.threshold):
        run.terminal.say(*line)
    run.terminal.say("table.csv, table.md", folder)
    run.terminal.say("look at", ToPaste(folder / "index.html"))


def _notes(run: Run, setup: BenchmarkSetup) -> dict[str, str]:
    """How the numbers were made, for the page."""
    config, split = run.settings.benchmark, _split(run)
    truth = {"masks": _MASK, "boxes": _BOX}.get(config.truth, "")
    counts = Counter(label for item in setup.items for label in item.labels)
    left = [
        f"{run.data.classes[k]} ({count} images)"
        for k, count in sorted(counts.items())
        if k not in setup.outputs
    ]
    network = setup.explained.classifier
    size = config.size or network.preprocessing.size
    return {
        "classifier": network.name
        + (f", weights {config.model_weights}" if config.model else "")
        + (f", {config.checkpoint}" if config.checkpoint else ""),
        "images": f"{len(setup.items)} of {len(split.items)} of {split.name}",
        "ground truth": truth if setup.truth_version else "none: localisation was not scored",
        "classes left out": f"{', '.join(left)}: the network has no such class" if left else "none",
        "maps": "raw, as the method returns them: one scale, no mirror, no smoothing; longer side "
        f"of the image {size} px; then stretched bilinearly",
        "metrics that need more maps": f"{min(config.faithfulness_images, len(setup.items))} "
        f"images; {config.steps} steps; {config.sensitivity_samples} changed images",
        "mosaics": "four images of different classes, stretched to squares of that side; also "
        "images that the network gets wrong",
        "device": f"{setup.device.type}, {torch.get_num_threads()} threads",
        "code": str(made_by()["git"]),
    }


def _gallery(
    run: Run, items: Sequence[Item], stages: Mapping[str, StageFolder], path: Path
) -> Gallery:
    """For each class in an image the photo, the map of each method, and the ground truth."""
    files = PictureFiles(path, len(run.data.classes))
    shown = [one for item in items for one in _shown(run, item, stages, files)]
    files.tidy()
    return Gallery(shown, _HINT)


def _shown(
    run: Run, item: Item, stages: Mapping[str, StageFolder], files: PictureFiles
) -> Iterator[Shown]:
    maps = {name: read_maps(stage.path, item) for name, stage in stages.items()}
    labels = sorted({label for found in maps.values() for label in found})
    try:
        truth = None if item.mask is None else masks_of(item)
    except PipelineError:  # it is among the failures already
        return
    for label in labels:
        name = f"{item.id}/{label + 1}"
        photo, note = files.photo(name, item)
        layers = {"photo": photo}
        for method, found in maps.items():
            if label in found:
                source = stages[method].path / MANIFEST
                layers[f"saliency: {method}"] = files.map(name, method, source, found[label])
        if truth is not None and item.mask is not None:
            mask = np.where(truth.objects.get(label, False), label + 1, BACKGROUND)
            mask = np.where(truth.void, VOID, mask).astype(np.uint8)
            layers["ground truth"] = files.labels(name, "ground truth", item.mask, mask)
        shown = run.data.classes[label]
        yield Shown(f"{item.id}: {shown}", _split(run).name, [shown], layers, note=note)
