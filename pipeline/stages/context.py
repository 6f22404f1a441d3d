"""What every stage is given: the configuration, the data, and where its results go."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from hydra.errors import InstantiationException
from hydra.utils import get_method, instantiate
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.artifacts import StageFolder, code_version, fingerprint, write_json
from pipeline.config import RunConfig
from pipeline.data.catalogue import Catalogue, Split
from pipeline.data.checks import check_catalogue, data_fingerprint, describe
from pipeline.errors import ConfigError, MissingArtifactError
from pipeline.scoring import miou

T = TypeVar("T")

_PACKAGES = (
    "tsgb", "torch", "torchvision", "timm", "pytorch-lightning", "torchmetrics",
    "segmentation-models-pytorch", "albumentations", "opencv-python-headless", "numpy", "numba",
    "hydra-core", "matplotlib", "jinja2",
)  # fmt: skip


@dataclass
class Run:
    """One run: a configuration and a folder. Stages read and write through it.

    Attributes:
        config: Every setting.
        folder: Where the stages' folders are. Runs that share it share what they have in common.
        output: Where the command's own files go: its versions, its report; ``folder`` by default.
    """

    config: RunConfig
    folder: Path
    output: Path = field(default_factory=Path)
    console: Console = field(default_factory=lambda: Console(stderr=True))
    lines: list[tuple[str, str]] = field(default_factory=list)  # of the summary at the end

    def __post_init__(self) -> None:
        if self.output == Path():
            self.output = self.folder

    @cached_property
    def catalogue(self) -> Catalogue:
        """The data set, read and checked; the check is skipped if the same data passed before."""
        catalogue: Catalogue = build(self.config.data, "data")
        record = self.folder / "data.json"
        known = data_fingerprint(catalogue)
        facts = {"fingerprint": known, "name": catalogue.name, "classes": catalogue.classes}
        if not (record.exists() and json.loads(record.read_text())["fingerprint"] == known):
            with self.progress("checking data", 0) as step:
                check_catalogue(catalogue, progress=step)
            write_json(record, {**facts, "contents": describe(catalogue)})
        return catalogue

    @cached_property
    def chosen_classes(self) -> list[str]:
        """``evaluate.classes``: what means are over, beside background; empty for all that occur.

        Raises:
            ConfigError: One is not a class of the data.
        """
        chosen = list(self.config.evaluate.classes or ())
        unknown = set(chosen) - set(self.catalogue.classes)
        if unknown:
            raise ConfigError(
                f"evaluate.classes: {', '.join(sorted(unknown))} not among the classes of "
                f"{self.catalogue.name}: {', '.join(self.catalogue.classes)}. Their mean could not "
                "be reported. Correct the names."
            )
        return chosen

    @cached_property
    def data_version(self) -> str:
        """Fingerprint of images and image labels; ground truth has no say in what is made."""
        return data_fingerprint(self.catalogue.without_truth())

    def truth_version(self, split: Split) -> str:
        """Fingerprint of the ground truth of a split, for what is scored with it or learns it."""
        masks = [(item.id, item.mask.read_bytes()) for item in split.items if item.mask is not None]
        return fingerprint([(name, hashlib.sha256(mask).hexdigest()) for name, mask in masks])

    def stage(
        self, name: str, variant: str, module: str, upstream: Iterable[StageFolder], **parts: Any
    ) -> StageFolder:
        """The folder of a stage, with everything that its result depends on.

        Its name has the settings in it, so that one choice never replaces the result of another;
        changed code does replace it.

        Args:
            name: Of the stage.
            variant: A word about the settings, for people.
            module: Whose code makes the result.
            upstream: The stages that it reads.
            parts: Its own settings, as plain values.
        """
        upstream = list(upstream)
        choice = {
            "settings": {key: _plain(value) for key, value in parts.items()},
            "from": [stage.path.name for stage in upstream],
            "data": self.data_version,
            "random_seed": self.config.random_seed,
        }
        everything = {
            **choice,
            "upstream": [stage.fingerprint for stage in upstream],
            "code": [code_version(module), *map(code_version, _target_modules(parts))],
        }
        word = re.sub(r"[^\w.]+", "_", variant)
        path = self.folder / name / f"{word}-{fingerprint(choice)[:6]}"
        return StageFolder(path, everything, self.made_by)

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """Versions and git revision of what is running."""
        return {
            "git": git_revision(),
            "python": platform.python_version(),
            "platform": platform.platform(terse=True),
            "packages": {name: _version(name) for name in _PACKAGES},
        }

    def carry_out(
        self, folder: StageFolder, work: Callable[[StageFolder], dict[str, Any]]
    ) -> StageFolder:
        """Do the work of a stage unless it is done, or another process does it; say which."""
        name = folder.path.relative_to(self.folder).as_posix()
        if not folder.is_done:
            with self._turn(folder):
                if not folder.is_done:  # unless the other process did it
                    self._work_on(name, folder, work)
                    return folder
        self.console.print(f"[green]{name}[/]: unchanged ({folder.fingerprint}), skipped")
        return folder

    def _turn(self, folder: StageFolder) -> AbstractContextManager[None]:
        name = folder.path.relative_to(self.folder).as_posix()
        busy = f"[bold]{name}[/]: another process is at it; waiting until it ends"
        return folder.alone(lambda: self.console.print(busy))

    def _work_on(
        self, name: str, folder: StageFolder, work: Callable[[StageFolder], dict[str, Any]]
    ) -> None:
        resumed = folder.begin()
        self.console.print(f"[bold]{name}[/]: {'going on' if resumed else 'starting'}")
        pl.seed_everything(self.config.random_seed, workers=True, verbose=False)
        folder.finish(work(folder))
        self.console.print(f"[green]{name}[/]: done in {folder.manifest['seconds']:.0f} s")

    def score(self, done: StageFolder, split: Split, scores: Callable[[], Any]) -> None:
        """Add ``scores()`` to a finished stage, unless the same ground truth has scored it.

        Not part of the work: masks that are mended or added later change no result of it.
        """
        truth = self.truth_version(split)
        if done.summary.get("truth") != truth:
            with self._turn(done):
                if done.summary.get("truth") != truth:
                    done.amend(truth=truth, scores=scores())

    def require(self, folder: StageFolder, command: str) -> StageFolder:
        """A stage that must be done already.

        Raises:
            MissingArtifactError: It is not, or it was made with other settings.
        """
        if folder.is_done:
            return folder
        state = "was made by other code, or is not whole" if folder.manifest else "is missing"
        if folder.manifest.get("state") == "running":
            state = "is not finished; it was killed, or another command is at it"
        raise MissingArtifactError(
            f"{folder.path}: {state}. This stage cannot start without it. "
            f"Run `python scripts/run.py {command}` with the same settings first, or stage=all."
        )

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int, int], None]]:
        """A progress bar with a rate; call the result with the number done and the total."""
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(
            *columns, console=self.console, disable=not self.config.trainer.progress
        ) as bar:
            task = bar.add_task(what, total=total or None, rate="")

            def step(done: int, of: int) -> None:
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f}/s" if speed else ""
                bar.update(task, completed=done, total=of, rate=rate)

            yield step

    def say(self, name: str, value: str) -> None:
        """Add a line to the summary at the end."""
        self.lines.append((name, value))

    def say_means(self, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Add a line with the means over background and the chosen classes, if there is a choice.

        Args:
            scores: What ``ConfusionMatrix.as_dict`` made, by a word for each.
        """
        if self.chosen_classes:
            means = [f"{word} {number(miou(s, self.chosen_classes))}" for word, s in scores.items()]
            self.say(f"  over background, {', '.join(self.chosen_classes)}", ", ".join(means))

    def summarise(self) -> None:
        """Print the summary: numbers, and where the results are."""
        table = Table(title=str(self.output), show_header=False)
        table.add_column()
        table.add_column(overflow="fold")  # a path that is cut cannot be copied
        for name, value in self.lines:
            table.add_row(name, value)
        self.console.print(table)


def number(value: float | None) -> str:
    """A score with three decimals, or a word where nothing could be scored.

    Example:
        >>> number(0.5), number(None)
        ('0.500', 'undefined')
    """
    return "undefined" if value is None else f"{value:.3f}"


def build(node: dict[str, Any], group: str) -> Any:
    """The object that a group with a ``_target_`` describes.

    Raises:
        ConfigError: The group has a key that its target does not know, or lacks one.
    """
    target = node.get("_target_")
    if not target:
        raise ConfigError(f"{group}: no _target_. Choose an option of the group, see --help.")
    try:
        return instantiate(node, _convert_="all")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, TypeError | ValueError | ImportError | InstantiationException):
            raise ConfigError(
                f"{group}: {target} does not accept these settings: {cause}. "
                f"Given: {', '.join(k for k in node if k != '_target_')}."
            ) from error
        raise cause from error


def name_of(node: dict[str, Any]) -> str:
    """The name of what a group with a ``_target_`` builds.

    Example:
        >>> name_of({"_target_": "tsgb.TSGB", "kappa": 0.5})
        'TSGB'
    """
    return str(node.get("_target_", "none")).rpartition(".")[2]


def _target_modules(parts: Any) -> list[str]:
    """Modules of everything that settings build with a ``_target_``, at any depth."""
    if hasattr(parts, "__dataclass_fields__"):
        parts = asdict(parts)
    if not isinstance(parts, dict):
        return []
    own = [get_method(parts["_target_"]).__module__] if "_target_" in parts else []
    return own + [name for value in parts.values() for name in _target_modules(value)]


def weights_version(weights: str) -> str:
    """A word (none, download, classifier) as it is; for a file, the hash of its content."""
    path = Path(weights).expanduser()
    if not path.is_file():
        return weights
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def write_provenance(run: Run) -> None:
    """Write versions, random seed and git revision of this command into its folder."""
    facts = {
        "random_seed": run.config.random_seed,
        "config_fingerprint": fingerprint(asdict(run.config)),
    }
    write_json(run.output / "provenance.json", {**facts, **run.made_by})


def git_revision() -> str:
    """Commit of the checkout that this code runs from, ``-dirty`` if it was changed."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(  # fixed words, no shell
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
