"""The commands that go on from a finished run."""

from __future__ import annotations

import shlex
from pathlib import Path

from pipeline.base.errors import MissingArtifactError
from pipeline.inference.records import network_record
from pipeline.run.run import Run


def predict_command(run: Run) -> str:
    """The words that label photos with the network of a run."""
    return predict_with(network_place(run))


def predict_with(place: Path) -> str:
    """The words that label photos with the network of a run, or in a folder of its own."""
    return f"tsgb predict {shlex.quote(str(place))} photos/ --out predictions/"


def review_command(run: Run) -> str:
    """The words that list what to look at first in a run."""
    return review_of(network_place(run))


def review_of(place: Path) -> str:
    """The same for the network in a folder."""
    return f"tsgb review {shlex.quote(str(place))}"


def network_place(run: Run) -> Path:
    """What names the network of a run: its folder, or the network's own if there are others."""
    place, own = run.folder, run.stage("segmentation")
    try:
        network_record(place)
    except MissingArtifactError:
        place = own.path if own.is_done else place
    return place
