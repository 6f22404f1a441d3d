"""Classification networks of torchvision and timm by name, with the weights of a file or their own.

The command ``tsgb`` and the pipeline both load networks here, so that a name means one network.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from tsgb._optional import LIBRARIES, optional_package
from tsgb.errors import TSGBError
from tsgb.explain.names import similar
from tsgb.explain.state_dicts import load_strictly, read_state_dict


class NetworkError(TSGBError, ValueError):
    """The library cannot make the network."""


class DownloadError(NetworkError):
    """The library cannot load the weights that it publishes for a network."""


class UnknownNetworkError(NetworkError):
    """The library has no classification network of that name."""


def load_network(library: str, name: str, weights: str, **options: Any) -> nn.Module:
    """The network with its own classifier, as the library makes it.

    Args:
        library: ``torchvision`` or ``timm``.
        name: Name of the network there, for example ``resnet50``.
        weights: ``download`` (the library's best), ``none`` (random), or the path of a state dict
            of the whole network.
        options: Further arguments of the library's network, such as ``output_stride=16``.

    Raises:
        MissingPackageError: The library is not installed.
        NetworkError: The library is unknown, or refuses an option.
        DownloadError: It has no weights for the network, or cannot download them; the message
            names the address and the kind of file.
        UnknownNetworkError: The library has no such network; the message lists similar names.
        WeightsError: The file cannot be read, or does not fit the network.

    Example:
        >>> load_network("torchvision", "squeezenet1_1", "none").num_classes
        1000
    """
    if library not in LIBRARIES:
        raise NetworkError(f"library {library!r} is unknown. Choose {' or '.join(LIBRARIES)}.")
    network = _made(library, name, weights, options)
    if weights not in ("download", "none"):
        load_strictly(network, read_state_dict(weights), weights)
    return network


def _made(library: str, name: str, weights: str, options: dict[str, Any]) -> nn.Module:
    make = _from_torchvision if library == "torchvision" else _from_timm
    try:
        return make(name, weights == "download", options)
    except UnknownNetworkError:
        raise
    except (AssertionError, NotImplementedError, TypeError) as error:
        if not options:
            raise
        raise NetworkError(
            f"{library}/{name} does not take {options}: {str(error) or 'refused'}. Leave these "
            "options out, or choose another network, such as resnet50."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        if weights != "download":
            raise NetworkError(
                f"{library} cannot make {name!r} ({error}). Choose another network, such as "
                "resnet50."
            ) from error
        raise DownloadError(
            f"{library} cannot load the weights of {name!r} ({error}). Without a connection, get "
            f"{published(library, name)} on another computer (the state dict of this very network, "
            "as torch.save or safetensors wrote it), and give the path of the file."
        ) from error


def published(library: str, name: str) -> str:
    """Where a library gets the weights of a network, as its own records have it.

    Args:
        library: ``torchvision`` or ``timm``.
        name: Name of the network there.

    Example:
        >>> published("torchvision", "squeezenet1_1").rpartition("/")[2]
        'squeezenet1_1-b8a52dc0.pth'
        >>> published("timm", "test_resnet")
        'model.safetensors of timm/test_resnet.r160_in1k on the Hugging Face hub'
    """
    if library == "torchvision":
        models = optional_package("torchvision.models", "torchvision networks")
        return str(models.get_model_weights(name).DEFAULT.url)
    record = optional_package("timm", "timm networks").get_pretrained_cfg(name)
    if record is None or not record.hf_hub_id:
        return getattr(record, "url", "") or "weights"  # of a network without published ones
    file = record.hf_hub_filename or "model.safetensors"
    return f"{file} of {record.hf_hub_id} on the Hugging Face hub"


def _from_torchvision(name: str, download: bool, further: dict[str, Any]) -> nn.Module:
    models = optional_package("torchvision.models", "torchvision networks")
    _check_known("torchvision", name, name, models.list_models(module=models))
    options: dict[str, Any] = {"weights": "DEFAULT" if download else None}
    if name in ("googlenet", "inception_v3") and not download:
        # Their published weights expect it, and torchvision sets it only when it downloads them.
        options |= {"transform_input": True, "init_weights": False}
    network: nn.Module = models.get_model(name, **options, **further)
    return network


def _from_timm(name: str, download: bool, further: dict[str, Any]) -> nn.Module:
    timm = optional_package("timm", "timm networks")
    if ":" not in name:  # else it is an address, such as hf-hub:timm/resnet50.a1_in1k
        _check_known("timm", name, name.partition(".")[0], timm.list_models())
    network: nn.Module = timm.create_model(name, pretrained=download, **further)
    return network


def _check_known(library: str, name: str, architecture: str, known: Sequence[str]) -> None:
    if architecture not in known:
        raise UnknownNetworkError(
            f"{library} has no classifier {name!r}. {similar(architecture, known)}"
        )
