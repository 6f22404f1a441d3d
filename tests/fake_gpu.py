"""A GPU that is not there: torch works out shapes, types and devices as on CUDA, and no values."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = "meta"  # which autograd knows, other than "cuda" where there is no driver
ROOT = Path(__file__).parent.parent
_OURS = (str(ROOT / "tsgb"), str(ROOT / "pipeline"))
_READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default}
_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Waits(TorchDispatchMode):
    """Notes each place where Python would wait for the GPU: a value is read, or a copy blocks.

    What is read from the GPU is true, and false from the CPU: the checks of this project then pass.
    Where even a shape depends on values, as of ``nonzero``, the fake mode beneath raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation in _READS:
            on_gpu = args[0].device.type == GPU
            if on_gpu:
                self.places.append(_place())
            return on_gpu
        result = operation(*args, **kwargs)
        if operation in _COPIES and not kwargs.get("non_blocking", False):
            source = args[1] if operation is torch.ops.aten.copy_.default else args[0]
            if {source.device.type, result.device.type} == {"cpu", GPU}:
                self.places.append(_place())
        return result


class _Constants(TorchFunctionMode):
    """Notes constants of Python that go straight to the GPU, which is a copy that blocks."""

    def __init__(self, places: list[str]) -> None:
        super().__init__()
        self.places = places

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        constant = function in (torch.tensor, torch.as_tensor) and not torch.is_tensor(args[0])
        if constant and torch.device(kwargs.get("device") or "cpu").type == GPU:
            self.places.append(_place())
        return function(*args, **kwargs)


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(_OURS)]
    return f"{Path(frames[-1].filename).name}: {frames[-1].line}" if frames else "the test"


@contextmanager
def fake_gpu() -> Iterator[Waits]:
    """In the block all tensors are fake; one on the device ``GPU`` can be asked for and used.

    Operations that mix devices raise, as they do on CUDA.
    """
    with ExitStack() as stack:
        for name in ("autocast", "is_autocast_enabled"):  # which torch has not for this device
            asked = partial(_as_on_a_cpu, getattr(torch, name))
            stack.enter_context(mock.patch.object(torch, name, asked))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        stack.enter_context(FakeTensorMode())
        waits = stack.enter_context(Waits())
        stack.enter_context(_Constants(waits.places))
        yield waits


def _as_on_a_cpu(function, device, **options):
    return function("cpu" if device == GPU else device, **options)


def on_gpu(module: nn.Module) -> nn.Module:
    """A real module with fake weights on the GPU; ``Module.to`` cannot be used in the fake mode."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(_fake(weight), weight.requires_grad)
        for name, values in part._buffers.items():
            if values is not None:
                part._buffers[name] = _fake(values)
    return module


def _fake(values: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device=GPU)
