"""What an exported network says about itself, and reading one back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.base.errors import DataError, PipelineError
from pipeline.tasks.segmenter import SegmenterTask
from tsgb.explain.state_dicts import WeightsError, load_strictly

LAYOUT = 1  # of the metadata
KEY = "tsgb"  # under which every format stores them
SUFFIX = ".safetensors"
PROGRAMS = {".onnx": "Run it with onnxruntime", ".pt": "Run it with torch.jit.load"}
NETWORK = ("arch", "encoder", "options", "mean", "deviation")  # settings that make the network


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, types and values of tensors, as 16 hexadecimal digits.

    Example:
        >>> digest_of({"a": torch.zeros(2)}) == digest_of({"a": torch.tensor([0.0, 1e-9])})
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as every format stores them: JSON under one name.

    Example:
        >>> as_text({"layout": 1, "labels": ["background", "Käfer"]})
        {'tsgb': '{"layout": 1, "labels": ["background", "Käfer"]}'}
    """
    return {KEY: json.dumps(about, ensure_ascii=False)}


def read_exported(path: Path) -> tuple[SegmenterTask, dict[str, Any]]:
    """The segmenter in a file ``model.safetensors``, in eval mode on the CPU, and its metadata.

    Nothing in the file is executed.

    Raises:
        DataError: It is damaged, or ``tsgb export`` did not write it.
    """
    about, tensors = _content(path)
    if about.get("layout") != LAYOUT or about.get("kind") != "segmenter":
        raise DataError(
            f"{path}: no segmenter that `tsgb export --format safetensors` of this version wrote. "
            "Export the run again, or name the folder of the run."
        )
    if digest_of(tensors) != about.get("weights"):
        raise DataError(f"{path}: damaged (the checksum of its weights is wrong). Export it again.")
    try:
        settings = {name: about["network"][name] for name in NETWORK} | {"weights": "none"}
        task = SegmenterTask(settings, list(about["labels"][1:]), about.get("bands"))
        load_strictly(task.network, tensors, str(path))
    except (KeyError, TypeError, WeightsError, PipelineError) as error:
        raise DataError(f"{path}: cannot be used ({error}). Export it again.") from error
    return task.eval(), about


def _content(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            texts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"{path}: damaged, or no file of safetensors ({error}).") from error
    try:
        about = json.loads(texts.get(KEY, "{}"))
    except (ValueError, RecursionError):
        about = {}
    return (about if isinstance(about, dict) else {}), tensors
