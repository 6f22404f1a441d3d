"""Networks that trainings left."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipeline.base.errors import ConfigError
from pipeline.data.catalogue import Catalogue
from pipeline.stages.own_files import CHECKPOINT, read_own
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.network_task import NetworkTask
from pipeline.tasks.segmenter import SegmenterTask

Task = TypeVar("Task", bound=NetworkTask)


def load_classifier(folder: Path) -> ClassifierTask:
    """The trained classifier in the folder of stage `classifier`, in eval mode on the CPU.

    Raises:
        DamagedFileError: The checkpoint is damaged. It was put aside.
    """
    return _own(ClassifierTask, folder)


def load_segmenter(folder: Path) -> SegmenterTask:
    """The trained segmenter in the folder of stage `segmentation`; see :func:`load_classifier`."""
    return _own(SegmenterTask, folder)


def _own(kind: type[Task], folder: Path) -> Task:
    return read_own(folder / CHECKPOINT, kind.from_checkpoint)


def given_classifier(checkpoint: str, setting: str) -> ClassifierTask:
    """The classifier in a file that a setting names.

    Raises:
        ConfigError: The file does not exist.
        DataError: It is no checkpoint of a classifier.
    """
    return ClassifierTask.from_checkpoint(_given(checkpoint, setting, "classifier"))


def given_segmenter(checkpoint: str, setting: str, data: Catalogue) -> SegmenterTask:
    """The segmenter in a file that a setting names.

    Raises:
        ConfigError: The file does not exist, or the segmenter has other classes than the data.
        DataError: It is no checkpoint of a segmenter.
    """
    task = SegmenterTask.from_checkpoint(_given(checkpoint, setting, "segmentation"))
    if tuple(task.classes) != data.classes:
        raise ConfigError(
            f"{setting}: {checkpoint} has {len(task.classes)} classes ({', '.join(task.classes)}), "
            f"the data have {len(data.classes)} ({', '.join(data.classes)}). Choose the data that "
            "the segmenter was trained on."
        )
    return task


def _given(checkpoint: str, setting: str, stage: str) -> Path:
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{setting}: no file {checkpoint!r}. Give the path of a .ckpt file that stage={stage} "
            "wrote."
        )
    return path
