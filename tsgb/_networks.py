"""Classification networks of torchvision and timm by name.

The command ``tsgb`` and the pipeline take theirs from here, so that a name means one network.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

from torch import nn

from tsgb._optional import optional_package
from tsgb.errors import TSGBError

Library: TypeAlias = Literal["torchvision", "timm"]

_LISTED = 8  # names in a message


class UnknownNetworkError(TSGBError, ValueError):
    """The library has no classification network of that name."""


def make_network(library: Library, name: str, *, download: bool, **options: Any) -> nn.Module:
    """The network with its own classifier, as the library makes it.

    Args:
        library: Where the network is from.
        name: Of the network there, for example ``resnet50``.
        download: With the library's best weights; without, they are random.
        options: Further arguments of the library's network.

    Raises:
        MissingPackageError: The library is not installed.
        OSError: The weights cannot be downloaded.
        RuntimeError: The library has no weights for this network.
        TypeError: The network does not take one of the options.
        UnknownNetworkError: There is no such network; names those that are like it.
        ValueError: The library refuses for another reason.

    Example:
        >>> make_network("torchvision", "squeezenet1_1", download=False).num_classes
        1000
    """
    make = _from_torchvision if library == "torchvision" else _from_timm
    return make(name, download, options)


def _from_torchvision(name: str, download: bool, further: dict[str, Any]) -> nn.Module:
    models = optional_package("torchvision.models", "torchvision networks")
    _check_known("torchvision", name, name, models.list_models(module=models))
    options: dict[str, Any] = {"weights": "DEFAULT" if download else None}
    if name in ("googlenet", "inception_v3") and not download:
        # The published weights of these two expect it, and torchvision sets it with them only.
        options |= {"transform_input": True, "init_weights": False}
    network: nn.Module = models.get_model(name, **options, **further)
    return network


def _from_timm(name: str, download: bool, further: dict[str, Any]) -> nn.Module:
    timm = optional_package("timm", "timm networks")
    if ":" not in name:  # else it is a place, as in hf-hub:timm/resnet50.a1_in1k
        _check_known("timm", name, name.partition(".")[0], timm.list_models())
    network: nn.Module = timm.create_model(name, pretrained=download, **further)
    return network


def _check_known(library: str, name: str, architecture: str, known: Sequence[str]) -> None:
    if architecture not in known:
        raise UnknownNetworkError(
            f"{library} has no classifier {name!r}. {similar(architecture, known)}"
        )


def similar(name: str, known: Sequence[str]) -> str:
    """A sentence for a message: the known names that are like ``name``, or the first ones.

    Example:
        >>> similar("resnet19", ["resnet18", "vgg16"])
        'Similar are: resnet18.'
    """
    lowered = {value.casefold(): value for value in known}
    close = get_close_matches(name.casefold(), lowered, n=_LISTED, cutoff=0.5)
    if close:
        return f"Similar are: {', '.join(lowered[match] for match in close)}."
    return f"The first of {len(known)} are: {', '.join(known[:_LISTED])}."
