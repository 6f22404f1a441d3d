"""Weakly-supervised segmentation: from image labels to a network and its mIoU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.inference.loading import Use, load

__all__ = ["Use", "load"]


def __getattr__(name: str) -> Any:
    """Import what loads a network once it is asked for; it takes seconds."""
    if name in __all__:
        from pipeline.inference import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
