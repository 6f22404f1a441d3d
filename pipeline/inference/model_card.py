"""The model card of an exported network, filled in from the manifests of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.base.config import GROUND_TRUTH, PSEUDO
from pipeline.base.terminal import number
from pipeline.formats.corrected import plus_masks
from pipeline.run.data_record import DataRecord
from pipeline.run.lineage import Record

CARD = "README.md"
_UNKNOWN = "unknown (exported from a checkpoint alone)"
_SPLITS = ("train", "val")


def model_card(about: Mapping[str, Any], record: Record | None) -> str:
    """A model card in Markdown, with the front matter that model hubs read.

    Args:
        about: Metadata of the exported file.
        record: The stage that trained the network; None for a checkpoint alone.
    """
    sections = {
        "Classes": _classes(about),
        "Data": _data(record),
        "Labels": _labels(record, about["corrected_masks"]),
        "Scores": _scores(about["scores"], about["corrected_masks"]),
        "Input and output": _input(about),
        "Limits": _LIMITS,
        "Licence": "TO BE FILLED IN: the licence of these weights. It depends on the licences of "
        "the photos and of the initial weights of the encoder.",
    }
    parts = [f"## {title}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join([_head(about), *parts]) + "\n"


def _head(about: Mapping[str, Any]) -> str:
    return (
        "---\nlicense: unknown  # TO BE FILLED IN\npipeline_tag: image-segmentation\n---\n\n"
        f"# Segmentation of {len(about['labels']) - 1} classes\n\n"
        f"{about['network_name']}. Weights {about['weights']}; made by revision "
        f"{about['revision']}, {_versions(about)}."
    )


def _versions(about: Mapping[str, Any]) -> str:
    wanted = ("tsgb", "torch", "segmentation-models-pytorch")
    known = [f"{name} {about['made_by'][name]}" for name in wanted if name in about["made_by"]]
    return ", ".join(known) or "versions unknown"


def _classes(about: Mapping[str, Any]) -> str:
    rows = [
        f"| {value} | {_cell(name)} | {red}, {green}, {blue} |"
        for value, (name, (red, green, blue)) in enumerate(
            zip(about["labels"], about["palette"], strict=True)
        )
    ]
    return "\n".join(["| value | label | colour (RGB) |", "|---|---|---|", *rows])


def _data(record: Record | None) -> str:
    contents = DataRecord(record.path.parents[1]).contents if record else {}
    if not contents:
        return f"{_UNKNOWN}." if record is None else "Not recorded."
    lines = [f"Data set `{contents['name']}`.", "", "| split | images | images with each class |"]
    lines.append("|---|---|---|")
    for name in (name for name in _SPLITS if name in contents):
        split = contents[name]
        classes = ", ".join(f"{_cell(k)} {n}" for k, n in split["images_per_class"].items())
        lines.append(f"| {name} | {split['images']} | {classes} |")
    return "\n".join(lines)


def _labels(record: Record | None, corrected: int) -> str:
    if record is None:
        return f"{_UNKNOWN}{plus_masks(corrected)}."
    labels = str(record.settings["segmenter"]["labels"])
    count = record.summary.get("images", "an unknown number of")
    if labels == GROUND_TRUTH:
        return f"Masks drawn by people, for {count} images."
    if labels == PSEUDO:
        way = " -> ".join(stage.name for stage in record.ancestors())
        made = f"The masks that the network learned from were computed from them ({way})"
        if corrected:
            return (
                f"Weak labels{plus_masks(corrected)}: the names of the classes in each of {count} "
                f"images, and for {corrected} of these a mask that a person drew or corrected. "
                f"{made}, but for these {corrected}."
            )
        return (
            f"Weak labels: the only supervision were the names of the classes in each of {count} "
            f"images. {made}; no mask drawn by a person was used in training."
        )
    known = f"Label images from a folder{plus_masks(corrected)}, for {count} images."
    return f"{known} Who made them is not recorded."


def _scores(scores: Mapping[str, Any], corrected: int) -> str:
    if not scores:
        return "Not scored: there was no ground truth, or no evaluation."
    rows = [f"| {_cell(name)} | {number(value)} |" for name, value in scores["IoU"].items()]
    return "\n".join([
        f"mIoU{plus_masks(corrected)} {number(scores['mIoU'])} on {scores['images']} images; mean "
        f"over {scores['classes']} labels.",
        "",
        f"Rule: {scores['protocol']}. One confusion matrix over all images at their own size; "
        "pixels that the ground truth leaves void do not count. The exported program is one pass "
        "at scale 1: average other scales and the mirrored image outside of it.",
        "",
        "| label | IoU |",
        "|---|---|",
        *rows,
    ])  # fmt: skip


def _input(about: Mapping[str, Any]) -> str:
    pixels = "the bands in their own values," if "bands" in about else "RGB in [0, 1]"
    return (
        f"ONNX and TorchScript: input {about['input']}; output {about['output']}. Normalisation "
        f"and padding to multiples of {about['multiple']} are inside.\n\n"
        "`model.safetensors` holds the bare network of segmentation-models-pytorch, which returns "
        f"logits. It wants sides that are multiples of {about['multiple']}, and {pixels} from "
        f"which the mean {about['mean']} is subtracted and which is divided by the deviation "
        f"{about['deviation']}."
    )


_LIMITS = (
    "The network knows the classes above only, and calls everything else background or one of "
    "them. Photos that differ from the training data in kind, scale or light are labelled worse "
    "than the scores say. Networks that learned from weak labels miss thin parts and include "
    "what occurs with a class most of the time (rails with trains). Do not use it where an error "
    "harms people."
)


def _cell(text: str) -> str:
    r"""Text in a cell of a table in Markdown, in which nothing is markup.

    Example:
        >>> print(_cell("a|<b>"))
        a\|&lt;b>
    """
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
