"""A trained network as one file that other programs run: ONNX, safetensors, TorchScript."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.base.arrays import Floats
from pipeline.base.config import SegmenterConfig
from pipeline.base.errors import ConfigError, reason
from pipeline.base.files import write_bytes
from pipeline.data.bands import Bands
from pipeline.data.palette import PALETTE
from pipeline.inference.export_format import Format
from pipeline.inference.exported import LAYOUT, NETWORK, as_text, digest_of
from pipeline.inference.model_card import CARD, model_card
from pipeline.inference.records import corrected, evaluated, evaluations, made, network_record
from pipeline.inference.tiles import STRIDE
from pipeline.networks.pixels import pad_to_multiple
from pipeline.run.lineage import Record
from pipeline.stages.trained import load_classifier, load_segmenter
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.network_task import NetworkTask
from pipeline.tasks.segmenter import SegmenterTask, corrected_in

# Probabilities of the exported and the trained network may differ by this: the libraries add
# float32 numbers in another order.
TOLERANCE = 1e-4
# Numbers of images, heights and widths.
_TRACED = (2, 96, 128)
CHECKED = ((1, 64, 160), (2, 75, 101), (1, 131, 50))  # sizes of the comparison
_OPSET = 18

Answer = Callable[[Tensor], Floats]


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        task: The trained network.
        record: The stage that trained it; None for a checkpoint alone.
        folder: Where the files go unless another place is named.
        corrected_masks: How many real masks a segmenter learned from beside image labels.
    """

    task: NetworkTask
    record: Record | None
    folder: Path
    corrected_masks: int = 0

    @property
    def about(self) -> dict[str, Any]:
        """The metadata that every format stores, as plain values."""
        return {**_common(self), **_use(self)}


def find_source(place: Path, *, classifier: bool) -> Source:
    """The network of a run, or in a checkpoint.

    Args:
        place: As for :func:`pipeline.load`: a run, a network's folder, or a checkpoint.
        classifier: The run's classifier in place of the segmenter.

    Raises:
        DataError: The checkpoint is damaged, or of another kind.
        MissingArtifactError: The network does not exist or is not finished.
    """
    if place.is_file():
        kind = ClassifierTask if classifier else SegmenterTask
        task, folder = kind.from_checkpoint(place), place.parent / "export"
        return Source(task, None, folder, len(corrected_in(place)))
    record = network_record(place)
    folder = record.path.parents[1] / "export"
    if classifier:
        record = made(record, "classifier")
        return Source(load_classifier(record.path), record, folder)
    return Source(load_segmenter(record.path), record, folder, corrected(record))


def export(source: Source, kind: Format, out: Path | None = None) -> list[Path]:
    """Write a network and its model card, in place of earlier exports of the same network.

    Args:
        source: The network.
        kind: The format.
        out: A folder, or a file with the suffix of the format; by default ``export`` in the run.

    Returns:
        The files, that of the network first.

    Raises:
        ConfigError: A package is missing, the network cannot be exported in this format or answers
            otherwise there, or another file has its name. Nothing was written.
        StorageError: A file could not be written.
    """
    is_classifier = isinstance(source.task, ClassifierTask)
    if is_classifier and kind is not Format.onnx:
        raise ConfigError(
            f"format: {kind} is for segmenters. Export a classifier as onnx; `tsgb explain` and "
            "pipeline.tasks.classifier read its last.ckpt."
        )
    path = _target(out or source.folder, "classifier" if is_classifier else "model", kind)
    files = {path: _WRITERS[kind](source)}
    if kind is Format.safetensors:
        files[path.with_name("config.json")] = _config(source)
    if not is_classifier:
        files |= _card(path.with_name(CARD), source)
    _refuse_others(files, source.about["weights"])
    for target, content in files.items():
        write_bytes(target, content)
    return list(files)


def _target(out: Path, name: str, kind: Format) -> Path:
    """The file that a person names by its folder or by its own name."""
    suffix = kind.suffix
    if out.suffix in {one.suffix for one in Format} and not out.is_dir():
        if out.suffix != suffix:
            raise ConfigError(f"out: {out}, but {kind} files end in {suffix}. Rename it.")
        return out
    return out / f"{name}{suffix}"


def _card(path: Path, source: Source) -> dict[Path, bytes]:
    """The model card, unless one of the same network is there, which a person may have edited."""
    if path.is_file() and source.about["weights"].encode() in path.read_bytes():
        return {}
    return {path: model_card(source.about, source.record).encode()}


def _refuse_others(files: Mapping[Path, bytes], weights: str) -> None:
    """Refuse to replace files, unless they are exports of the same network."""
    others = [str(p) for p, new in files.items() if p.exists() and not _is_own(p, new, weights)]
    if others:
        raise ConfigError(
            f"{', '.join(others)}: exists, and is no export of this network. Choose another --out, "
            "or remove it. Nothing was written."
        )


def _is_own(path: Path, content: bytes, weights: str) -> bool:
    there = path.read_bytes() if path.is_file() else b""
    return there == content or weights.encode() in there


def _common(source: Source) -> dict[str, Any]:
    """Names, colours, preprocessing, and where the network comes from."""
    task, made_by = source.task, source.record.made_by if source.record else {}
    is_classifier = isinstance(task, ClassifierTask)
    labels = list(task.classes) if is_classifier else ["background", *task.classes]
    return {
        "layout": LAYOUT,
        "kind": "classifier" if is_classifier else "segmenter",
        "network_name": task.title,
        "labels": labels,
        "mean": list(task.colours.mean),
        "deviation": list(task.colours.deviation),
        "input": _input(task.bands),
        "revision": made_by.get("git", "unknown"),
        "made_by": made_by.get("packages", {}),
        "weights": digest_of(task.network.state_dict()),
    } | ({"bands": task.bands.plain()} if task.bands else {})


def _input(bands: Bands | None) -> str:
    if bands is None:
        return "RGB, uint8 [batch, 3, height, width]"
    return f"{bands.words} in their own values, as float32 [batch, {bands.channels}, height, width]"


def _use(source: Source) -> dict[str, Any]:
    """What depends on the kind of network: how it is used, and its scores."""
    task, record = source.task, source.record
    if isinstance(task.settings, SegmenterConfig):
        scored = evaluations(record) if record else []
        known = evaluated(record) if record else {}
        return {
            "output": "probabilities, float32 [batch, labels, height, width], sum 1",
            "palette": PALETTE[: len(task.classes) + 1].tolist(),
            "multiple": STRIDE,  # sides are padded to it by repeating the border
            "network": {name: getattr(task.settings, name) for name in NETWORK},
            "scales": list(known.get("scales", (1.0,))),
            "flip": bool(known.get("flip")),
            "corrected_masks": source.corrected_masks,
            "scores": dict(scored[-1].summary.get("scores") or {}) if scored else {},
        }
    summary = record.summary if record else {}
    return {
        "output": "probabilities, float32 [batch, labels], each in [0, 1]",
        "size": task.settings.size,  # px: images are resized to a square, bilinear, antialiased
        "scores": {name: summary[name] for name in ("mAP", "AP", "split") if name in summary},
    }


class _Segmenter(nn.Module):
    """Images [B, C, H, W] to probabilities [B, labels, H, W]; all preprocessing included."""

    def __init__(self, task: SegmenterTask) -> None:
        super().__init__()
        self.network, self.colours = task.network, task.colours

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        pixels = self.colours.normalise(pad_to_multiple(images.float(), STRIDE))
        probabilities: Tensor = self.network(pixels).softmax(1)
        return probabilities[..., :height, :width]


class _Classifier(nn.Module):
    """Images [B, C, H, W] to probabilities [B, classes]."""

    def __init__(self, task: ClassifierTask) -> None:
        super().__init__()
        self.network, self.colours = task.network, task.colours

    def forward(self, images: Tensor) -> Tensor:
        probabilities: Tensor = self.network(self.colours.normalise(images)).sigmoid()
        return probabilities


def _program(task: NetworkTask) -> nn.Module:
    """The whole way from pixels to probabilities, to be traced."""
    program = _Classifier(task) if isinstance(task, ClassifierTask) else _Segmenter(task)  # type: ignore[arg-type]
    return program.eval().to(memory_format=torch.contiguous_format)  # ONNX knows no other


def expected(task: NetworkTask, images: Tensor) -> Floats:
    """Probabilities of the trained network, with which an exported one is compared."""
    with torch.no_grad():
        logits = task(images)
    planes = logits.sigmoid() if isinstance(task, ClassifierTask) else logits.softmax(1)
    return np.asarray(planes.numpy(), dtype=np.float32)


def as_onnx(source: Source) -> bytes:
    """ONNX with dynamic batch, height and width, checked with onnxruntime."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"format: onnx needs {error.name}, of the extra 'export': pip install 'tsgb[export]'"
        ) from error
    stream = io.BytesIO()
    _traced(source.task, lambda program, images: _to_onnx(program, images, stream))
    model = onnx.load_from_string(stream.getvalue())
    onnx.helper.set_model_props(model, as_text(source.about))
    content = bytes(model.SerializeToString(deterministic=True))

    def answer(images: Tensor) -> Floats:
        return np.asarray(session.run(None, {"image": images.numpy()})[0])

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _compare(source.task, answer, Format.onnx)
    return content


def _to_onnx(program: nn.Module, images: Tensor, stream: io.BytesIO) -> None:
    """Trace a network into ONNX.

    The exporter of `torch.export` (dynamo=True) fails in torch 2.15 for sides that are padded and
    then divided by dilated layers, as in DeepLab ("Cannot create Dim with inconsistent min=1"),
    and needs half a minute where this one needs half a second.
    """
    spatial = {0: "batch", 2: "height", 3: "width"}
    planes = {0: "batch"} if isinstance(program, _Classifier) else spatial
    torch.onnx.export(
        program, (images,), stream,  # type: ignore[arg-type]  # takes streams too
        dynamo=False, opset_version=_OPSET,
        input_names=["image"], output_names=["probabilities"],
        dynamic_axes={"image": spatial, "probabilities": planes},
    )  # fmt: skip


def as_torchscript(source: Source) -> bytes:
    """A TorchScript program for ``torch.jit.load``, with the metadata in its file ``tsgb``."""
    program = _traced(source.task, lambda program, images: torch.jit.trace(program, images))

    def answer(images: Tensor) -> Floats:
        with torch.no_grad():
            return np.asarray(program(images).numpy())

    _compare(source.task, answer, Format.torchscript)
    stream = io.BytesIO()
    with _quiet():
        torch.jit.save(program, stream, _extra_files=as_text(source.about))
    return stream.getvalue()


def as_safetensors(source: Source) -> bytes:
    """The tensors under their names in segmentation-models-pytorch, and the metadata."""
    from safetensors.torch import save

    tensors = {name: t.contiguous() for name, t in source.task.network.state_dict().items()}
    return save(tensors, as_text(source.about))


def _config(source: Source) -> bytes:
    """What ``from_pretrained`` of segmentation-models-pytorch reads beside the tensors."""
    network: Any = source.task.network
    config = {**network.config, "_model_class": type(network).__name__}
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


_WRITERS = {
    Format.onnx: as_onnx,
    Format.safetensors: as_safetensors,
    Format.torchscript: as_torchscript,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch's tracer; what it makes is compared with the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _traced(task: NetworkTask, trace: Callable[[nn.Module, Tensor], Any]) -> Any:
    program = _program(task)
    try:
        with _quiet(), torch.no_grad():
            return trace(program, task.colours.noise(*_TRACED))
    except Exception as error:  # torch raises what it likes for a network that it cannot trace
        raise ConfigError(
            f"format: {task.title} cannot be traced: {reason(error)} Export it as safetensors."
        ) from error


def _compare(task: NetworkTask, answer: Answer, kind: Format) -> None:
    """Refuse an exported network that answers otherwise than the trained one.

    Raises:
        ConfigError: Names the size, and by how much.
    """
    for shape in CHECKED:
        images = task.colours.noise(*shape)
        difference = _difference(answer, images, expected(task, images))
        if difference:
            raise ConfigError(
                f"format: {task.title} as {kind} {difference} for {shape[0]} image(s) of "
                f"{shape[2]} x {shape[1]} px. Nothing was written. Export it as safetensors."
            )


def _difference(answer: Answer, images: Tensor, wanted: Floats) -> str:
    try:
        found = answer(images)
    except Exception as error:  # noqa: BLE001, a runtime raises what it likes
        return f"fails ({reason(error)})"
    if found.shape != wanted.shape:
        return f"returns shape {found.shape}, not {wanted.shape},"
    largest = float(np.abs(found - wanted).max())
    if largest <= TOLERANCE:
        return ""
    return f"differs by {largest:.2g}, more than {TOLERANCE:g},"
