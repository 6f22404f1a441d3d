"""Files of weights, read as tensors only and copied strictly."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tsgb.explain.state_dicts import (
    WeightsError,
    is_checkpoint,
    load_strictly,
    read_state_dict,
)


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_a_state_dict_may_lie_under_the_usual_keys(tmp_path, key):
    tensors = nn.Linear(2, 3).state_dict()
    torch.save(tensors if key is None else {key: tensors, "epoch": 7}, tmp_path / "weights.pth")

    found = read_state_dict(tmp_path / "weights.pth")

    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_file_of_safetensors_is_read_by_its_name(tmp_path):
    tensors = nn.Linear(2, 3).state_dict()
    save_file(tensors, tmp_path / "weights.safetensors")

    found = read_state_dict(tmp_path / "weights.safetensors")

    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_broken_file_of_safetensors_is_named(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"half a file")

    with pytest.raises(WeightsError, match=r"weights\.safetensors' cannot be read as a file of s"):
        read_state_dict(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_wrapped_networks_lose_their_prefix(tmp_path, prefix):
    tensors = nn.Linear(2, 3).state_dict()
    torch.save({f"{prefix}{name}": t for name, t in tensors.items()}, tmp_path / "weights.pth")

    assert read_state_dict(tmp_path / "weights.pth").keys() == tensors.keys()


def test_a_prefix_of_some_names_is_part_of_them(tmp_path):
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "weights.pth")

    assert read_state_dict(tmp_path / "weights.pth").keys() == {"module.a", "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"model": nn.Linear(1, 1)}, "cannot be read as a file of tensors", id="code"),
        pytest.param({"epoch": 7}, "holds no tensors by name", id="numbers"),
        pytest.param(torch.ones(2), "holds no tensors by name", id="one-tensor"),
        pytest.param([torch.ones(2)], "holds no tensors by name", id="list"),
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pth")

    with pytest.raises(WeightsError, match=rf"weights\.pth' {message}"):
        read_state_dict(tmp_path / "weights.pth")


@pytest.mark.parametrize("prefixes", [["module."], ["_orig_mod."], ["module.", "_orig_mod."]])
@pytest.mark.parametrize("outer", [False, True])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefixes, outer):
    tensors = nn.Linear(2, 3).state_dict()
    prefix = "".join(prefixes[::-1] if outer else prefixes)
    content = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": content}, tmp_path / "weights.pth")

    assert read_state_dict(tmp_path / "weights.pth").keys() == tensors.keys()


def test_names_that_only_resemble_a_prefix_are_kept(tmp_path):
    tensors = {"module.weight": torch.ones(1), "modules.weight": torch.ones(1)}
    torch.save(tensors, tmp_path / "weights.pth")

    assert read_state_dict(tmp_path / "weights.pth").keys() == tensors.keys()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"hyper_parameters": {"settings": {}, "classes": []}, "state_dict": {}}, True),
        ({"hyper_parameters": {"lr": 0.1}, "state_dict": {}}, False),
        ({"hyper_parameters": [], "state_dict": {}}, False),
        (nn.Linear(2, 3).state_dict(), False),
        ([1], False),
    ],
)
def test_checkpoints_of_the_pipeline_are_told_apart(tmp_path, content, expected):
    torch.save(content, tmp_path / "last.ckpt")

    assert is_checkpoint(tmp_path / "last.ckpt") is expected


def test_a_checkpoint_of_the_pipeline_is_named_where_a_state_dict_is_needed(tmp_path):
    about = {"settings": {"backbone": "resnet18"}, "classes": ["cat"]}
    tensors = {"network.weight": torch.ones(1)}
    torch.save({"hyper_parameters": about, "state_dict": tensors}, tmp_path / "last.ckpt")

    with pytest.raises(
        WeightsError,
        match=r"last\.ckpt' is a checkpoint that `tsgb run` trained\..* --weights` without --model",
    ):
        read_state_dict(tmp_path / "last.ckpt")


def test_what_is_no_file_of_torch_is_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")

    with pytest.raises(WeightsError, match=r"text\.pth' cannot be read .*torch\.save"):
        read_state_dict(tmp_path / "text.pth")
    with pytest.raises(WeightsError, match=r"there is no file 'nowhere\.pth'"):
        read_state_dict("nowhere.pth")


def test_every_tensor_is_copied():
    source, copy = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    nn.init.uniform_(source.running_mean)
    nn.init.uniform_(source.weight)
    tensors = {k: v for k, v in source.state_dict().items() if not k.endswith("batches_tracked")}

    load_strictly(copy, tensors, "a file without the counter of batches")

    assert torch.equal(copy.running_mean, source.running_mean)
    assert torch.equal(copy.weight, source.weight)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        pytest.param({"weight": torch.ones(3, 2)}, r"x\.pth does not fit Linear; 1 .*bias: missing",
                     id="missing"),
        pytest.param({"weight": torch.ones(3, 9), "bias": torch.ones(3)},
                     r"weight: shape \(3, 9\) in the file, \(3, 2\) in the ", id="misshapen"),
        pytest.param({"weight": torch.ones(3, 2), "bias": torch.ones(3), "deeper": torch.ones(1)},
                     r"deeper: not in the network", id="unused"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_and_nothing_is_copied(tensors, message):
    layer = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}

    with pytest.raises(WeightsError, match=rf"(?s){message}"):
        load_strictly(layer, tensors, "x.pth")

    assert all(torch.equal(layer.state_dict()[name], before[name]) for name in before)


def test_a_head_in_the_file_can_be_left_out():
    layer = nn.Linear(2, 1, bias=False)

    load_strictly(
        layer, {"weight": torch.ones(1, 2), "head": torch.ones(1)}, "x.pth", allow_unused=True
    )

    assert layer.weight.tolist() == [[1.0, 1.0]]


def test_long_lists_of_problems_are_cut():
    with pytest.raises(WeightsError, match=r"\.\.\. and 2 more$"):
        load_strictly(nn.Linear(2, 3), {f"t{k}": torch.ones(1) for k in range(10)}, "x.pth")
