"""State dicts from files, copied strictly: every tensor that is needed, in the right shape."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tsgb._optional import optional_package
from tsgb.errors import TSGBError

_WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which training programs save
_PREFIXES = ("module.", "_orig_mod.")  # of wrappers around the network
_COUNTER = "num_batches_tracked"  # of batch norm; files of old versions of torch lack it
_SAFE = ".safetensors"
_LISTED = 10  # tensors in a message


class WeightsError(TSGBError, ValueError):
    """A file of weights cannot be read, or its tensors do not fit the network."""


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file by name, read without running code that it may contain.

    Args:
        path: A file NAME.safetensors, or one that ``torch.save`` wrote: a state dict, alone or
            under one of the keys ``state_dict``, ``model`` and ``model_state_dict``. The prefixes
            ``module.`` and ``_orig_mod.`` are dropped if all names have them.

    Raises:
        WeightsError: The file does not exist, is not a file of tensors, or holds none, or it is a
            checkpoint of the pipeline.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"model": nn.Linear(2, 3).state_dict()}, f"{folder}/weights.pth")
        ...     sorted(read_state_dict(f"{folder}/weights.pth"))
        ['bias', 'weight']
    """
    content = _content(Path(path).expanduser())
    if _is_checkpoint(content):
        raise WeightsError(
            f"{str(path)!r} is a checkpoint that `tsgb run` trained. It holds its network and "
            "class names besides the weights, and is understood as a whole: by `tsgb explain "
            "--weights` without --model, and by explain.checkpoint of `tsgb run stage=explain`."
        )
    tensors = _tensors(content)
    if not tensors:
        raise WeightsError(
            f"{str(path)!r} holds no tensors by name. Save a state dict, with "
            "torch.save(model.state_dict(), path)."
        )
    return tensors


def is_packed(path: Path) -> bool:
    """Whether a file of torch has compressed records; False for any other file.

    torch reads them, so that a small file could fill the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def is_checkpoint(path: Path | str) -> bool:
    """True for a checkpoint that the pipeline of this distribution trained, ``tsgb run``.

    Args:
        path: A file that ``torch.save`` wrote.

    Raises:
        WeightsError: The file does not exist or is not a file of tensors.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"model": nn.Linear(2, 3).state_dict()}, f"{folder}/weights.pth")
        ...     is_checkpoint(f"{folder}/weights.pth")
        False
    """
    return _is_checkpoint(_content(Path(path).expanduser()))


def _is_checkpoint(content: object) -> bool:
    about = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    return isinstance(about, Mapping) and {"settings", "classes"} <= about.keys()


def _content(path: Path) -> object:
    if not path.is_file():
        raise WeightsError(
            f"there is no file {str(path)!r}. Give the path of a state dict, or one of "
            "the words none and download."
        )
    if path.suffix == _SAFE:
        return _safe_content(path)
    if is_packed(path):
        raise WeightsError(
            f"{str(path)!r} holds compressed records, which torch.save never writes and which a "
            "few bytes can make larger than the memory. Save the state dict again."
        )
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises almost anything
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{str(path)!r} cannot be read as a file of tensors ({reason}). Save the "
            "state dict alone, with torch.save(model.state_dict(), path)."
        ) from error
    return content


def _safe_content(path: Path) -> object:
    package = optional_package("safetensors.torch", f"weights in a file NAME{_SAFE}")
    try:
        content: object = package.load_file(path)
    except Exception as error:  # the package raises errors of its own and those of the system
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{str(path)!r} cannot be read as a file of safetensors ({reason}). Get it again."
        ) from error
    return content


def _tensors(content: object) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return _unwrapped(tensors)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that DataParallel and torch.compile give to all names alike.

    Example:
        >>> list(_unwrapped({"module._orig_mod.fc.bias": torch.zeros(1)}))
        ['fc.bias']
    """
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _unwrapped({name.removeprefix(prefix): t for name, t in tensors.items()})
    return tensors


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, allow_unused: bool = False
) -> None:
    """Copy tensors into a module, all or none.

    Args:
        module: Every parameter and buffer of it must be among the tensors. The batch counters of
            batch norm may be missing: they play no part in the result.
        tensors: Tensors by name, as in a state dict.
        source: Where they are from, for messages.
        allow_unused: Accept tensors that the module does not have, such as those of a head.

    Raises:
        WeightsError: Tensors are missing, unused, or of another shape; names them.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> load_strictly(layer, {"weight": torch.tensor([[3.0, 4.0]])}, "weights.pth")
        >>> layer.weight.tolist()
        [[3.0, 4.0]]
    """
    wanted = module.state_dict()
    problems = [*_missing(wanted, tensors), *_misshapen(wanted, tensors)]
    if not allow_unused:
        problems += [f"{name}: not in the network" for name in tensors if name not in wanted]
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems[:_LISTED])
        more = f"\n  ... and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise WeightsError(
            f"{source} does not fit {type(module).__name__}; {len(problems)} tensors are "
            f"wrong and none was loaded. Choose the network that the file was made for.\n"
            f"{listed}{more}"
        )
    known = {name: tensor for name, tensor in tensors.items() if name in wanted}
    module.load_state_dict(known, strict=False)


def _missing(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    names = [name for name in wanted if name not in tensors and not name.endswith(_COUNTER)]
    return [f"{name}: missing" for name in names]


def _misshapen(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name}: shape {tuple(tensors[name].shape)} in the file, {tuple(tensor.shape)} in the "
        "network"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
