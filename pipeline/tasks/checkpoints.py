"""Checkpoints: written whole or not at all, and read with their checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from pipeline.base.errors import DataError
from pipeline.base.files import atomic_path
from tsgb.explain.state_dicts import is_packed

PREVIOUS = ".previous"  # ends the name of the checkpoint before the last one, while training


def previous(path: Path) -> Path:
    """Where the checkpoint of the epoch before is kept while a training goes on."""
    return path.with_name(f"{path.name}{PREVIOUS}")


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them; keeps the one before.

    Lightning's own writer copies from the system's temporary folder, so that a kill or a full disk
    leaves half a file in place of a whole one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any) -> None:
        """Write a checkpoint; the one that had its name becomes the previous one."""
        target = Path(path)
        with atomic_path(target) as temporary:
            torch.save(checkpoint, temporary)
            if target.exists():
                target.replace(previous(target))

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """:func:`read_checkpoint`."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Nothing in it is executed.

    Raises:
        DataError: It is damaged (a single flipped bit is noticed), or is no checkpoint.
    """
    try:
        check_whole(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (DataError, OSError):
        raise
    except Exception as error:  # torch raises what it likes for a file that is none
        raise DataError(f"{path}: not a checkpoint ({type(error).__name__}).") from error
    if not isinstance(content, dict) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise DataError(f"{path}: not a checkpoint that stage=classifier or segmentation wrote.")
    return content


def check_whole(path: Path) -> None:
    """Read a checkpoint to its end and compare its checksums.

    Raises:
        DataError: It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # zipfile has one for each thing that can be wrong
        raise DataError(f"{path}: damaged, or no checkpoint ({error}).") from error
    if is_packed(path):
        raise DataError(f"{path}: no checkpoint (its records are compressed).")
    if damaged is not None:
        raise DataError(f"{path}: damaged (the checksum of {damaged} is wrong).")
