"""The words of the commands beside `tsgb run`.

Nothing here loads a network's libraries, so that help and mistyped words are answered at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.data.headers import MAX_MEGAPIXELS
from pipeline.formats.writing import FORMATS
from pipeline.inference.export_format import Format
from pipeline.means import RULE

SPLITS = ("train", "val")
_SHOWN = 20  # images of a review


def export() -> argparse.ArgumentParser:
    """The words of ``tsgb export``."""
    words = argparse.ArgumentParser(
        prog="tsgb export",
        description="The network of a run as one file that carries its preprocessing, class "
        "names, colours and scores, and a model card beside it.",
    )
    add = words.add_argument
    add("run", metavar="RUN", type=Path, help="folder of a run or of its network, or a checkpoint")
    add("--format", choices=[str(kind) for kind in Format], default=str(Format.onnx),
        help="default: onnx")  # fmt: skip
    add("--out", metavar="PATH", type=Path, help="a folder, or a file; default: RUN/export")
    add("--classifier", action="store_true", help="the run's classifier, as ONNX")
    return words


def masks() -> argparse.ArgumentParser:
    """The words of ``tsgb masks``."""
    words = argparse.ArgumentParser(
        prog="tsgb masks", description="Label images out to labelling tools, and back."
    )
    commands = words.add_subparsers(required=True, metavar="COMMAND")
    _export_words(commands.add_parser("export", help="the masks of a run, for a labelling tool"))
    _import_words(commands.add_parser("import", help="what a tool exported, as indexed PNG"))
    return words


def _export_words(words: argparse.ArgumentParser) -> None:
    add = words.add_argument
    words.set_defaults(action="export")
    add("run", metavar="RUN", type=Path, help="folder of a run, or of one of its stages")
    add("--format", choices=FORMATS, required=True, help="what the tool reads")
    add("--split", choices=SPLITS, default="train", help="which images; default: train")
    add("--out", metavar="DIR", type=Path, required=True, help="where the files go")
    add("--only", metavar="FILE", type=Path,
        help="these images alone: one id per line, as `tsgb review` lists them")  # fmt: skip
    add("--predictions", action="store_true",
        help="what the network predicted in the evaluation, in place of pseudo-masks")  # fmt: skip
    add("--images", metavar="DIR", type=Path,
        help="the photos: their names are used, and they are copied to DIR/images")  # fmt: skip
    add("--min-pixels", metavar="N", type=int, default=0,
        help="drop smaller objects; default: 0, all are kept")  # fmt: skip
    add("--void", action="store_true", help="also void, as a class of the name void")
    add("--polygons", action="store_true", help="coco: polygons in place of run lengths")
    add("--megapixels", metavar="N", type=float, default=MAX_MEGAPIXELS,
        help=f"refuse larger masks undecoded; default: {MAX_MEGAPIXELS:g}")  # fmt: skip


def _import_words(words: argparse.ArgumentParser) -> None:
    add = words.add_argument
    words.set_defaults(action="import")
    add("masks", metavar="FILE", type=Path, help=".json, .zip, data.yaml, or a folder")
    add("--out", metavar="DIR", type=Path, required=True, help="where the label images go")
    names = words.add_mutually_exclusive_group()
    names.add_argument("--run", metavar="RUN", type=Path, help="the classes of this run")
    names.add_argument("--classes", metavar="A,B,C", help="names of the values 1, 2, 3, ...")
    names.add_argument("--names", metavar="FILE", type=Path, help="the same, one name per line")
    add("--images", metavar="DIR", type=Path, help="the photos; YOLO needs their sizes")
    add("--megapixels", metavar="N", type=float, default=MAX_MEGAPIXELS,
        help=f"refuse larger images undecoded; default: {MAX_MEGAPIXELS:g}")  # fmt: skip


def predict() -> argparse.ArgumentParser:
    """The words of ``tsgb predict``."""
    words = argparse.ArgumentParser(
        prog="tsgb predict",
        description="Label images of new photos, by the network of a run. The same command goes "
        "on where it was stopped.",
        epilog="Options that are not given are those that the run was evaluated with.",
    )
    add, choice = words.add_argument, argparse.BooleanOptionalAction
    add(
        "run",
        metavar="RUN",
        help="folder of a run or of its network, a checkpoint, or an exported .safetensors",
    )
    add("photos", metavar="PHOTO", nargs="+", help="image files, folders, or .txt lists of paths")
    add("--out", metavar="DIR", type=Path, required=True, help="where the results go")
    add("--overlay", action="store_true", help="also pictures of the labels over the photo")
    add("--probabilities", action="store_true", help="also 16-bit images of each class")
    add("--confidence", action="store_true", help="also 16-bit images of the chosen label's")
    add("--scales", metavar="A,B", type=_scales, help="average over these scales of the photo")
    add("--flip", action=choice, help="average over the mirrored photo too")
    add("--refine", action=choice, help="align with edges, by the run's refinement")
    add("--prior", action=choice, help="multiply by the odds of the run's classifier")
    add("--tile", metavar="N", type=int, help="predict in tiles of N px, for large photos")
    add("--overlap", metavar="SHARE", type=float, default=0.25, help="of tiles; default: 0.25")
    add("--megapixels", metavar="N", type=float, default=MAX_MEGAPIXELS,
        help=f"refuse larger files undecoded; default: {MAX_MEGAPIXELS:g}")  # fmt: skip
    add("--device", default="auto", help="auto (default), cpu or cuda")
    return words


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers with commas, as in 0.5,1") from error
    if not all(0 < scale < 100 for scale in scales):
        raise argparse.ArgumentTypeError(f"{text!r}: scales are above 0")
    return scales


def review() -> argparse.ArgumentParser:
    """The words of ``tsgb review``."""
    words = argparse.ArgumentParser(
        prog="tsgb review",
        description="A ranked list of the images that are most worth a person's minutes, by "
        "disagreement of network, classifier, pseudo-masks and image labels. No ground truth is "
        "read. The same command goes on where it was stopped.",
    )
    add = words.add_argument
    add("run", metavar="RUN", type=Path, help="folder of a run, or of one of its networks")
    add("--split", choices=SPLITS, default="train", help="which images; default: train")
    add("--top", metavar="N", type=_count, default=_SHOWN,
        help=f"how many images are listed and shown; default: {_SHOWN}")  # fmt: skip
    add("--out", metavar="DIR", type=Path, help="where the results go; default: RUN/review/SPLIT")
    add("--device", default="auto", help="auto (default), cpu or cuda")
    return words


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1")
    return int(text)


def score() -> argparse.ArgumentParser:
    """The words of ``tsgb score``."""
    words = argparse.ArgumentParser(
        prog="tsgb score",
        description="IoU of each class, mIoU and pixel accuracy of two folders of label images, "
        "which are matched by their paths without suffix.",
        epilog=RULE,
    )
    add = words.add_argument
    add("predictions", metavar="PRED", type=Path,
        help="folder of label images: indexed or 8-bit grey, 0 background, 255 void")  # fmt: skip
    add("truth", metavar="TRUTH", type=Path, help="folder of ground truth, of the same sizes")
    names = words.add_mutually_exclusive_group()
    names.add_argument("--classes", metavar="A,B,C", help="names of the values 1, 2, 3, ...")
    names.add_argument("--names", metavar="FILE", type=Path, help="the same, one name per line")
    add("--ids", metavar="FILE", type=Path,
        help="score the images of this list only, one id per line")  # fmt: skip
    add("--megapixels", metavar="N", type=float, default=MAX_MEGAPIXELS,
        help=f"refuse larger files undecoded; default: {MAX_MEGAPIXELS:g}")  # fmt: skip
    add("--json", action="store_true", help="print JSON")
    return words


PARSERS = {one.__name__: one for one in (export, masks, predict, review, score)}
"""What makes the parser of each command, by its name."""
