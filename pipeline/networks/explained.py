"""A classifier to explain, and the settings of a method with its layers' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.networks.pixels import scaled_size
from tsgb.explain.classifier import Classifier, Preprocessing


class OwnPreprocessing(Preprocessing):
    """How the pipeline shows a whole image to a network that it trained: by its longer side."""

    def whole(self, sides: tuple[int, int], size: int) -> tuple[int, int]:
        """Sides in px, width first, at which the network sees the whole of an image."""
        width, height = sides
        return scaled_size(height, width, size)[::-1]


@dataclass(frozen=True)
class ExplainedNetwork:
    """A classifier, and what the layers of the run's own classifier are called in it.

    Attributes:
        classifier: Network in evaluation mode, class names and preprocessing.
        layer_of: Name in the network of a layer of the run's classifier; None if it has none.
    """

    classifier: Classifier
    layer_of: Callable[[str], str | None]


def fitted(settings: Mapping[str, Any], explained: ExplainedNetwork) -> dict[str, Any]:
    """The settings of a method, at any depth, with the names that layers have in the network.

    A layer that the network does not have becomes None: the method's own default.
    """
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "layer" and value is not None:
            result[key] = explained.layer_of(str(value))
        else:
            result[key] = fitted(value, explained) if isinstance(value, Mapping) else value
    return result
