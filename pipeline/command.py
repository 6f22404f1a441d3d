"""The command ``tsgb``: run the pipeline, use its network, score masks, explain a picture."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.base.terminal import Terminal
    from tsgb.explain.classifier import Classifier

_COMMANDS = {
    "export": "the network of a run as ONNX, safetensors or TorchScript",
    "masks": "masks of a run out to labelling tools, and back",
    "predict": "label images of new photos, by a trained network",
    "review": "the images of a run that are most worth a person's minutes",
    "score": "IoU and mIoU of two folders of label images",
}
_EXTRA = "pipeline"  # of this distribution: what ``tsgb run`` needs


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command: 0, or 1 after a message on standard error.

    Args:
        arguments: Words after ``tsgb``; None takes those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["run"]:
        return _run(words[1:])
    if words and words[0] in _COMMANDS:
        return _own(words[0], words[1:])
    from tsgb._version import __version__
    from tsgb.explain.command import EXAMPLES, add_commands, execute

    parser = argparse.ArgumentParser(
        prog="tsgb",
        description="Saliency maps, and segmentation from image labels.",
        epilog=f"{EXAMPLES}  tsgb run --help\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tsgb {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("run", help="run the pipeline, as `python scripts/run.py` does")
    for name, about in _COMMANDS.items():
        commands.add_parser(name, help=about)
    add_commands(commands, _trained_classifier)
    return execute(parser.parse_args(words))


def _trained_classifier(path: str) -> Classifier:
    """The classifier in a checkpoint, for ``tsgb explain``."""
    from tsgb.explain.command import CommandError

    missing = _missing_packages()
    if missing:
        raise CommandError(
            f"--weights: {path!r} is a checkpoint that `tsgb run` trained. To read it, the extra "
            f"{_EXTRA!r} is needed ({', '.join(missing)} are missing): pip install 'tsgb[{_EXTRA}]'"
        )
    from pipeline.base.errors import PipelineError
    from pipeline.commands.explained import classifier_of  # needs these packages
    from pipeline.stages.trained import given_classifier

    try:
        return classifier_of(given_classifier(path, "--weights"))
    except PipelineError as error:
        raise CommandError(f"--weights: {error}") from error


def _run(words: Sequence[str]) -> int:
    """Hand the words to Hydra."""
    missing = _missing_packages()
    if missing:
        sys.stderr.write(
            f"tsgb run: not installed: {', '.join(missing)}. The pipeline needs the extra "
            f"{_EXTRA!r}: pip install 'tsgb[{_EXTRA}]'\n"
        )
        return 1
    from pipeline.commands.app import main as run  # needs these packages

    sys.argv = ["tsgb run", *words]
    run()
    return 0


def _own(name: str, words: Sequence[str]) -> int:
    """Run a command of ``pipeline.commands``; only a part of the extra is imported."""
    try:
        from pipeline.base.errors import PipelineError
        from pipeline.base.files import storage_explained
        from pipeline.base.terminal import Terminal, print_error
        from pipeline.commands.parsers import PARSERS

        wanted = PARSERS[name]().parse_args(words)
        work = _work_of(name)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"tsgb {name}: not installed: {error.name}. It needs the extra {_EXTRA!r}: "
            f"pip install 'tsgb[{_EXTRA}]'\n"
        )
        return 1
    try:
        with storage_explained(Path.cwd()):
            work(wanted, Terminal())
    except PipelineError as error:
        print_error(error)
        return 1
    return 0


def _work_of(name: str) -> Callable[[argparse.Namespace, Terminal], None]:
    """The function of a command; imports are statements, which fingerprints follow."""
    if name == "export":
        from pipeline.commands.export import main as export

        return export
    if name == "masks":
        from pipeline.commands.masks import main as masks

        return masks
    if name == "predict":
        from pipeline.commands.predict import main as predict

        return predict
    if name == "review":
        from pipeline.commands.review import main as review

        return review
    from pipeline.commands.score import main as score

    return score


def _missing_packages() -> list[str]:
    """Packages of the extra that are not installed; empty in a checkout that never was."""
    try:
        requirements = metadata.requires("tsgb") or []
    except metadata.PackageNotFoundError:
        return []
    wanted = [line for line in requirements if re.search(rf"extra == ['\"]{_EXTRA}['\"]", line)]
    names = (re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted)
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
