"""State dicts from files, loaded strictly: every tensor that is needed, in the right shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.base.errors import ConfigError, at_most

_WRAPPERS = ("state_dict", "model", "model_state_dict")


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a weights file, read without running any code that it may contain.

    Raises:
        ConfigError: No such file, not a PyTorch file, or no tensors in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"weights: no file {str(path)!r}. The network would start from noise. "
            "Give the path of a state dict, or one of the words none and download."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(
            f"weights: {str(path)!r} cannot be read as a file of tensors ({error}). "
            "Save the state dict alone with torch.save(model.state_dict(), path)."
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(k): v for k, v in dict(content).items() if isinstance(v, Tensor)}
    if not tensors:
        raise ConfigError(f"weights: {str(path)!r} holds no tensors. Save a state dict in it.")
    return tensors


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a module; its every parameter and buffer must be given.

    Tensors that the module does not have (a classifier head, say) are left out.

    Raises:
        ConfigError: Names the missing tensors and those of another shape.
    """
    wanted = module.state_dict()
    problems = []
    for name, tensor in wanted.items():
        if name not in tensors:
            if not name.endswith("num_batches_tracked"):
                problems.append(f"{name}: missing")
        elif tensors[name].shape != tensor.shape:
            have, need = tuple(tensors[name].shape), tuple(tensor.shape)
            problems.append(f"{name}: shape {have} in the file, {need} in the network")
    if problems:
        raise ConfigError(
            f"weights: {source} does not fit {type(module).__name__}; {len(problems)} of "
            f"{len(wanted)} tensors are wrong. Nothing was loaded. Choose the network that the "
            f"file was made for.\n{at_most(problems)}"
        )
    module.load_state_dict({k: tensors[k] for k in wanted if k in tensors}, strict=False)
