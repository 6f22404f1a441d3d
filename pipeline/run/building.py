"""Objects from settings with a ``_target_``, by Hydra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from pipeline.base.config import CORRECTED
from pipeline.base.errors import ConfigError
from pipeline.data.catalogue import Catalogue


def build(node: Mapping[str, Any], setting: str) -> Any:
    """The object that settings with a ``_target_`` describe.

    Args:
        node: ``_target_`` and the arguments of what it names.
        setting: Where a person gives them, for messages.

    Raises:
        ConfigError: A key that the target does not know or lacks, or no such target.
    """
    target = node.get("_target_")
    if not target:
        raise ConfigError(f"{setting}: no _target_. Choose an option of the group, see --help.")
    try:
        return instantiate(dict(node), _convert_="all")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, TypeError | ValueError | ImportError | InstantiationException):
            raise ConfigError(
                f"{setting}: {target} does not accept these settings: {cause}. "
                f"Given: {', '.join(k for k in node if k != '_target_')}."
            ) from error
        raise cause from error


def build_data(node: Mapping[str, Any]) -> Catalogue:
    """The data set that the settings of the group ``data`` describe."""
    catalogue: Catalogue = build({k: v for k, v in node.items() if k != CORRECTED}, "data")
    return catalogue


def name_of(node: Mapping[str, Any]) -> str:
    """The name of what a ``_target_`` builds.

    Example:
        >>> name_of({"_target_": "tsgb.TSGB", "kappa": 0.5})
        'TSGB'
    """
    return str(node.get("_target_", "none")).rpartition(".")[2]


def targets(settings: Any) -> Iterator[str]:
    """Every ``_target_`` in settings, at any depth.

    Example:
        >>> list(targets({"steps": {"crf": {"_target_": "a.CRF"}, "none": {"_target_": "a.B"}}}))
        ['a.CRF', 'a.B']
    """
    if is_dataclass(settings) and not isinstance(settings, type):
        settings = asdict(settings)
    if isinstance(settings, Mapping) and "_target_" in settings:
        yield str(settings["_target_"])
    values = settings.values() if isinstance(settings, Mapping) else settings
    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        for value in values:
            yield from targets(value)


def target_modules(settings: Any) -> list[str]:
    """Modules of everything that settings build."""
    return [str(get_object(target).__module__) for target in targets(settings)]


def reads_network(settings: Any) -> bool:
    """True if what these settings build looks at images with the run's classifier."""
    return any(getattr(get_object(name), "reads_network", False) for name in targets(settings))
