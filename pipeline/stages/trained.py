"""What the trainings leave."""

from __future__ import annotations

from pathlib import Path

from pipeline.tasks.classifier import ClassifierTask

CHECKPOINT = "last.ckpt"


def load_classifier(folder: Path) -> ClassifierTask:
    """The trained classifier in the folder of stage `classifier`, in eval mode on the CPU."""
    return ClassifierTask.from_checkpoint(str(folder / CHECKPOINT))
