"""Settings in the words of the command: which file of ``configs/`` builds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from pipeline.report.choices import class_word
from pipeline.run.building import targets
from pipeline.run.schema import CONFIGS


def word_of(group: str, node: Mapping[str, Any]) -> str:
    """What a command calls these settings: the option of the group that is most like them.

    Args:
        group: Dotted name, such as ``refine``, or ``saliency.method``.
        node: Settings with a ``_target_``.

    Returns:
        The name of a file in ``configs/`` that builds the same; the class's name if none does.

    Example:
        >>> word_of("refine", {"_target_": "pipeline.masks.refine.NoRefinement"})
        'none'
        >>> word_of("refine", {"_target_": "mine.Snake"})
        'Snake'
    """
    folder, _, inner = group.partition(".")
    found = []
    for path in sorted((CONFIGS / folder).glob("*.yaml")):
        option = _option(path).get(inner, {}) if inner else _option(path)
        if list(targets(option)) == list(targets(node)):
            found.append((_distance(option, node), len(path.stem), path.stem))
    return min(found)[-1] if found else class_word(group, node)


def _distance(option: Mapping[str, Any], node: Mapping[str, Any]) -> int:
    """How many values differ; those that are taken from other settings do not count."""
    own, other = _leaves(option), _leaves(node)
    return sum(other.get(key) != value for key, value in own.items() if "${" not in str(value))


def _leaves(node: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {name: node}
    return {k: v for key, value in node.items() for k, v in _leaves(value, f"{name}.{key}").items()}


@cache
def _option(path: Path) -> dict[str, Any]:
    """The content of an option, with that of the options that its ``defaults`` name."""
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    own = {str(key): value for key, value in dict(content or {}).items()}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for place, name in _sources(own.pop("defaults", [])):
        node = found
        for key in filter(None, place.split(".")):
            node = node.setdefault(key, {})
        node.update(_option(path.with_stem(name)))
    return {**found, **own}


def _sources(defaults: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Place and name of the options of the same group that ``defaults`` put together."""
    for entry in defaults:
        if isinstance(entry, Mapping):  # {"/refine@steps.crf": "crf"}
            yield from ((str(key).partition("@")[2], name) for key, name in entry.items())
        elif entry != "_self_":  # "crf", "par@steps.par"
            name, _, place = str(entry).partition("@")
            yield place, name
