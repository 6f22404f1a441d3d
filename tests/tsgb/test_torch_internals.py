"""Each use of torch that its documentation does not promise still does what it is used for."""

import gc

import pytest
import torch
from torch import nn
from torch.autograd.graph import disable_saved_tensors_hooks, save_on_cpu
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from tsgb._torch_internals import (
    StorageReference,
    call_without_saving,
    is_batched,
    is_operator,
    is_overload,
    is_reentrant_checkpoint,
    run_eagerly,
    saved_tensors_are_hooked,
    torch_functions_disabled,
    without_compilation,
)


class Seen(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_a_mode_does_not_see_what_is_hidden_from_it():
    x = torch.ones(2)

    with Seen() as seen:
        torch.relu(x)
        with torch_functions_disabled():
            torch.neg(x)
        torch.abs(x)

    assert seen.calls == ["relu", "abs"]


def test_a_batched_tensor_is_recognised():
    found = []

    torch.func.vmap(lambda row: found.append(is_batched(row)) or row)(torch.ones(2, 3))

    assert found == [True]
    assert not is_batched(torch.ones(2))


def test_hooks_on_saved_tensors_are_recognised():
    found = []

    def note(x):
        found.append(saved_tensors_are_hooked())
        return x.sin()

    checkpoint(note, torch.ones(2, requires_grad=True), use_reentrant=False)
    with save_on_cpu():
        note(torch.ones(2))

    assert found == [True, True]
    assert not saved_tensors_are_hooked()


class MissedError(Exception):
    pass


def missed(_nothing):
    raise MissedError


def test_a_call_that_saves_nothing_has_a_graph_without_values():
    x = torch.ones(2, requires_grad=True)

    y = call_without_saving(missed, torch.sin, x)

    assert y.requires_grad
    assert not saved_tensors_are_hooked()
    with pytest.raises(MissedError):
        torch.autograd.grad(y.sum(), x)


def test_hooks_are_gone_after_a_call_that_failed():
    with pytest.raises(TypeError):
        call_without_saving(missed, torch.sin, "no tensor")

    assert not saved_tensors_are_hooked()


def test_a_call_saves_as_ever_where_hooks_are_forbidden():
    x = torch.zeros(2, requires_grad=True)

    with disable_saved_tensors_hooks("not here"):
        y = call_without_saving(missed, torch.sin, x)

    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1, 1]


def test_operators_are_no_functions():
    aten = torch.ops.aten

    assert [is_operator(f) for f in (aten.relu, aten.relu.default, torch.relu)] == [1, 1, 0]
    assert [is_overload(f) for f in (aten.relu, aten.relu.default, torch.relu)] == [0, 1, 0]


def test_memory_is_freed_with_its_last_tensor():
    x = torch.ones(2)
    view, reference = x[:1], StorageReference(x)

    del x
    gc.collect()
    kept = reference.is_freed()
    del view
    gc.collect()

    assert (kept, reference.is_freed()) == (False, True)


def test_a_compiled_model_is_unwrapped():
    model = nn.Linear(2, 2)

    assert without_compilation(torch.compile(model, backend="eager")) is model
    assert without_compilation(model) is model


def test_compiled_functions_run_eagerly():
    runs = []

    def backend(graph, _inputs):
        runs.append(graph)
        return graph

    function = torch.compile(torch.neg, backend=backend)
    with run_eagerly():
        assert function(torch.ones(1)).item() == -1

    assert runs == []


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_reentrant_checkpoint_is_recognised(reentrant):
    x = torch.ones(2, requires_grad=True)

    y = checkpoint(torch.sin, x, use_reentrant=reentrant)

    assert is_reentrant_checkpoint(y.grad_fn) == reentrant
