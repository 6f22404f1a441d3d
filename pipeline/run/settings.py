"""Composed settings as plain typed values: complete, in their ranges, and every key is read."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from pipeline.base.config import CORRECTED, RunConfig
from pipeline.base.errors import ConfigError
from pipeline.base.spelling import named
from pipeline.run.schema import CONFIGS, register_schema


@dataclass(frozen=True)
class Range:
    """Numbers that a setting takes.

    Attributes:
        least: The smallest one.
        most: The largest one.
        without: The ends that do not belong to it: "(" the lower, ")" the upper, "()" both.

    Example:
        >>> print(Range(0, 1, "("), 0 in Range(0, 1, "("), 1 in Range(0, 1, "("))
        above 0, up to 1 False True
    """

    least: float
    most: float = math.inf
    without: str = ""

    def __contains__(self, number: float) -> bool:
        low = self.least < number if "(" in self.without else self.least <= number
        return low and (number < self.most if ")" in self.without else number <= self.most)

    def __str__(self) -> str:
        low = f"above {self.least:g}" if "(" in self.without else f"{self.least:g} or more"
        if self.most == math.inf:
            return low
        return f"{low}, {'below' if ')' in self.without else 'up to'} {self.most:.12g}"


_POSITIVE, _NOT_NEGATIVE, _SHARE = Range(0, without="("), Range(0), Range(0, 1)
_BELOW_1, _INSIDE, _ABOVE_0 = Range(0, 1, ")"), Range(0, 1, "()"), Range(0, 1, "(")
RANGES = {
    "random_seed": Range(0, 2**32 - 1),
    **dict.fromkeys(("epochs", "batch_size", "images", "steps", "devices"), Range(1)),
    "corrected_repeats": Range(1, 1000),
    **dict.fromkeys(("workers", "pictures", "faithfulness_images", "min_steps"), _NOT_NEGATIVE),
    "sensitivity_samples": _NOT_NEGATIVE,
    "size": Range(16),  # px; no network that ends in a map takes less
    **dict.fromkeys(("scale", "scales", "power", "gradient_clip"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "head_learning_rate"), _POSITIVE),
    **dict.fromkeys(("weight_decay", "competition"), _NOT_NEGATIVE),
    **dict.fromkeys(("warmup", "ema", "min_confidence"), _BELOW_1),
    **dict.fromkeys(("threshold", "foreground", "background"), _INSIDE),
    "benchmark.threshold": _ABOVE_0,
    "crop_area": _ABOVE_0,
    "colour_jitter": _SHARE,
    "tile": Range(64),  # px
    "overlap": Range(0, 0.9),
    "rotation": Range(0, 180),  # degrees
    "mean": _SHARE,
    "deviation": _POSITIVE,
}
"""Ranges of all numbers in ``RunConfig``, by the last part of a name or by the whole one."""


def plain(config: DictConfig) -> RunConfig:
    """The configuration as typed plain values, with every reference resolved.

    Raises:
        ConfigError: A value is missing, or refers to what there is not.
    """
    require_values(config)
    try:
        OmegaConf.resolve(config)
    except InterpolationResolutionError as error:
        raise _of_resolver(error) from error
    return cast(RunConfig, OmegaConf.to_object(config))


def default_settings() -> RunConfig:
    """The settings of a command without any words."""
    register_schema()
    running = GlobalHydra.instance().hydra  # the command's own, which goes on afterwards
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return plain(compose("run"))
    finally:
        GlobalHydra.instance().hydra = running


def _of_resolver(error: InterpolationResolutionError) -> Exception:
    """The error of this project behind OmegaConf's, if it is one."""
    cause = error.__cause__ or error.__context__
    return cause if isinstance(cause, ConfigError) else ConfigError(str(error).splitlines()[0])


def require_values(config: DictConfig) -> None:
    """Raise if a value that has no default was not given.

    Raises:
        ConfigError: Names every such key.
    """
    missing = sorted(_missing(OmegaConf.to_container(config, resolve=False)))
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} must be given; there is no default. "
            f"Add {missing[0]}=VALUE to the command."
        )


def _missing(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield from _missing(value, f"{prefix}{name}.")
        if value == MISSING:
            yield f"{prefix}{name}"


def check_settings(settings: RunConfig) -> None:
    """Raise for every number out of its range and every key that nothing reads.

    Raises:
        ConfigError: Names them all.
    """
    problems = [*_out_of_range(settings), *_unread(settings)]
    if problems:
        raise ConfigError("\n".join(problems))


def _out_of_range(node: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(node):
        value, key = getattr(node, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            yield from _out_of_range(value, f"{key}.")
        limits = RANGES.get(key, RANGES.get(field.name))
        is_number = any(word in str(field.type) for word in ("int", "float"))
        if limits is not None and value is not None and is_number:
            yield from _problem(key, value, limits, is_pair="tuple" in str(field.type))


def _problem(key: str, value: Any, limits: Range, *, is_pair: bool) -> Iterator[str]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not all(number in limits for number in numbers):
        yield f"{key}={_written(value)}: out of range. Choose {limits}."
    elif isinstance(value, list | tuple) and not numbers:
        yield f"{key}=[]: empty. Give one or more, each {limits}."
    elif is_pair and (len(numbers) != 2 or numbers[0] > numbers[1]):
        yield f"{key}={_written(value)}: give two numbers, the smaller first."


def _written(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)


_HYDRAS = {"_target_", "_partial_", "_convert_", "_recursive_"}


def _unread(node: Any, key: str = "") -> Iterator[str]:
    """Keys beside a ``_target_`` that are no arguments of it, at any depth."""
    if is_dataclass(node) and not isinstance(node, type):
        node = {field.name: getattr(node, field.name) for field in fields(node)}
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        yield from _unread(value, f"{key}.{name}" if key else str(name))
    target = node.get("_target_")
    arguments = _arguments(str(target)) if target else None
    if arguments is not None:
        for name in sorted(set(node) - _HYDRAS - ({CORRECTED} if key == "data" else set())):
            if name not in arguments:
                yield f"{key}.{name}: {target} has no such argument. {named(name, arguments)}"


def _arguments(target: str) -> list[str] | None:
    """Names of the arguments of what a ``_target_`` names; None if it takes any.

    Raises:
        ConfigError: Nothing has this name.
    """
    try:
        parameters = inspect.signature(get_object(target)).parameters.values()
    except ValueError:
        return None  # written in C
    except Exception as error:  # importing a module can fail in any way
        raise ConfigError(
            f"_target_: {target!r} cannot be imported ({error}). Correct the name."
        ) from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]
