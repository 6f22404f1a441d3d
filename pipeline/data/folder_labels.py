"""Image labels from the names of folders: one folder per class, and folders that show none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.base.errors import ConfigError, DataError, at_most
from pipeline.data.class_names import doubtful_names, read_classes, suggestion
from pipeline.data.labels import Labels

FOLDERS = "folders"
"""The value of ``data.labels`` that asks for these labels."""

NEGATIVE = ("good", "ok", "normal", "negative", "background")
"""Folders that show no class, in any case of letters, unless others are named."""

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_NO_PHOTOS = {"ground_truth", "masks", "annotations", "labels"}


def read_folder_labels(
    ids: Collection[str],
    classes: Sequence[str] | Path | str | None = None,
    negative: str | Sequence[str] | None = None,
) -> tuple[Labels, tuple[str, ...], tuple[str, ...]]:
    """Labels of images that lie in one folder per class.

    The first folder of an id names the class, so that ``cat/tabby/1`` shows a cat; a folder that
    is called after a split (``train``, ``val``, ``test``...) is passed over.

    Args:
        ids: Paths of the images inside the folder, without suffix.
        classes: The class names in the order of the mask values, as a list or a text file. With a
            single one, all other folders show no class. None: all folders that are not negative,
            in alphabetical order.
        negative: The folder or folders of images without any class; None: those of ``NEGATIVE``.

    Returns:
        Class indices per id, the class names, and notes.

    Raises:
        ConfigError: A negative folder does not exist.
        DataError: An image lies in no folder, a folder is neither a class nor negative, names are
            in doubt, or there is no class.

    Example:
        >>> read_folder_labels(["bad/1", "good/1"])[:2]
        ({'bad/1': (0,), 'good/1': ()}, ('bad',))
    """
    folders = {id_: _folder(id_) for id_ in ids}
    images = Counter(folders.values())
    _check_places(folders, images)
    given = None if classes is None else read_classes(classes)
    without = _negative(images, given, negative)
    names = _classes(Counter({k: n for k, n in images.items() if k not in without}), given)
    index = {name: (k,) for k, name in enumerate(names)}
    notes = [f"the {images[name]} images in the folder {name!r} show no class" for name in without]
    return {id_: index.get(folder, ()) for id_, folder in folders.items()}, names, tuple(notes)


def _folder(id_: str) -> str:
    """The folder that names the class; empty if there is none."""
    parts = id_.split("/")[:-1]
    if parts and parts[0].casefold() in _SPLITS:
        parts = parts[1:]
    return parts[0] if parts else ""


def _check_places(folders: dict[str, str], images: Counter[str]) -> None:
    loose = [id_ for id_, folder in folders.items() if not folder]
    if loose:
        raise DataError(
            f"data.labels={FOLDERS}: {len(loose)} image(s) lie in no folder of a class.\n"
            f"{at_most(loose)}\nMove each into the folder of its class, such as cat/1.jpg or "
            f"train/cat/1.jpg. Folders named after a split ({', '.join(sorted(_SPLITS))}) are no "
            "classes."
        )
    others = [name for name in images if name.casefold() in _NO_PHOTOS]
    if others:
        raise DataError(
            f"data.labels={FOLDERS}: the folder {others[0]!r} ({images[others[0]]} images) would "
            "be a class. Move it out of data.images; folders of masks are for data.masks."
        )


def _negative(
    images: Counter[str], classes: Sequence[str] | None, negative: str | Sequence[str] | None
) -> list[str]:
    """The folders without any class, in alphabetical order."""
    if negative is not None:
        named = [negative] if isinstance(negative, str) else list(negative)
        for name in named:
            if name not in images:
                raise ConfigError(
                    f"data.negative: there is no folder {name!r}{suggestion(name, list(images))}. "
                    f"The folders are {', '.join(sorted(images))}."
                )
        return sorted(named)
    if classes is not None and len(classes) == 1:
        return sorted(images.keys() - set(classes))
    return sorted(
        name for name in images if name.casefold() in NEGATIVE and name not in (classes or ())
    )


def _classes(images: Counter[str], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """The class names; ``images`` counts those of each folder that is not negative."""
    if not images:
        raise DataError(
            f"data.labels={FOLDERS}: no folder shows a class. Put the images of each class into a "
            "folder of its name, and name the folders without any with data.negative=[...]."
        )
    if given is None:
        doubts = doubtful_names(images)
        if doubts:
            raise DataError(
                f"data.labels={FOLDERS}: {len(doubts)} folder(s) are in doubt.\n{at_most(doubts)}\n"
                "Rename or merge them; or, if all of them are classes, list them: "
                f"data.classes=[{','.join(sorted(images))}]."
            )
        return read_classes(sorted(images))
    unknown = [
        f"{name!r} ({images[name]} images){suggestion(name, given)}"
        for name in sorted(images.keys() - set(given))
    ]
    if unknown:
        raise DataError(
            f"data.labels={FOLDERS}: {len(unknown)} folder(s) are no class of data.classes.\n"
            f"{at_most(unknown)}\nAdd them to data.classes, or to data.negative if their images "
            "show no class."
        )
    return given
