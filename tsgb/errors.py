"""Errors of the package: each names its cause, its consequence and the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args


class TSGBError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: Who, what is wrong, what would have happened, what to do.
        anonymous: The message does not say who; :func:`named` puts that in front.
    """

    def __init__(self, message: str, *, anonymous: bool = False) -> None:
        super().__init__(message)
        self.anonymous = anonymous


class UnsupportedModelError(TSGBError):
    """The network does something that the method cannot explain rightly."""


class LayerError(TSGBError, ValueError):
    """The read-out layer does not exist or gives no feature map."""


class TargetError(TSGBError, ValueError):
    """A target is not a class index of the network."""


class ShapeError(TSGBError, ValueError):
    """A tensor does not have the shape or type that is asked for."""


class NonFiniteError(TSGBError, ValueError):
    """A tensor holds NaN or infinity."""


@contextmanager
def named(who: str) -> Iterator[None]:
    """Put ``who`` in front of errors that were raised where the method is not known."""
    try:
        yield
    except TSGBError as error:
        if not error.anonymous:
            raise
        raise type(error)(f"{who}: {error}") from error


def check_choice(who: str, option: str, value: str, choices: Any) -> None:
    """Raise ValueError unless ``value`` is one of a ``Literal``'s ``choices``."""
    if value not in get_args(choices):
        raise ValueError(
            f"{who}: {option} is {value!r}. Use one of {', '.join(get_args(choices))}."
        )
