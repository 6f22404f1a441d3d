"""Optional packages, imported where they are needed."""

import importlib
from typing import Any

from tsgb.errors import TSGBError

LIBRARIES = ("torchvision", "timm")
"""Those that make networks by name."""


class MissingPackageError(TSGBError, ImportError):
    """An optional package is not installed."""


def optional_package(name: str, who: str) -> Any:
    """A module of an optional package.

    Args:
        name: Name of the module, for example ``PIL.Image``.
        who: What needs it, for the message.

    Raises:
        MissingPackageError: The package is not installed.

    Example:
        >>> optional_package("math", "example").floor(2.5)
        2
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is installed, but one that it needs is not
        raise MissingPackageError(
            f"{who}: the package {package} is not installed. It belongs to an extra: run "
            "pip install 'tsgb[draw]', or pip install -e '.[draw]' in a checkout."
        ) from error
