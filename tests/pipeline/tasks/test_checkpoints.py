"""Checkpoints are whole or absent, and damage is named before anything is made with it."""

import errno
import pickle

import pytest
import torch

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.base.errors import DataError, StorageError
from pipeline.networks.colours import IMAGENET
from pipeline.tasks.checkpoints import AtomicCheckpoints, check_whole, previous, read_checkpoint
from pipeline.tasks.classifier import ClassifierTask
from pipeline.tasks.segmenter import SegmenterTask


def content(value=1.0):
    return {"hyper_parameters": {}, "state_dict": {"weight": torch.full((64,), value)}}


@pytest.fixture
def written(tmp_path):
    AtomicCheckpoints().save_checkpoint(content(), tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_what_was_written_is_read(written):
    assert read_checkpoint(written)["state_dict"]["weight"].tolist() == [1.0] * 64


def test_the_checkpoint_before_is_kept(written):
    AtomicCheckpoints().save_checkpoint(content(2.0), written)

    assert read_checkpoint(written)["state_dict"]["weight"][0] == 2
    assert read_checkpoint(previous(written))["state_dict"]["weight"][0] == 1


def test_a_full_disk_leaves_the_checkpoint_that_was_there(written, monkeypatch):
    def full(_, path):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="the disk is full"):
        AtomicCheckpoints().save_checkpoint(content(2.0), written)

    assert read_checkpoint(written)["state_dict"]["weight"][0] == 1
    assert list(written.parent.iterdir()) == [written]


def test_every_flipped_bit_in_a_weight_is_noticed(written):
    whole = written.read_bytes()
    start = whole.index(torch.ones(64).numpy().tobytes())
    for place in (start, start + 129, start + 255):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        written.write_bytes(damaged)
        with pytest.raises(DataError, match=r"last\.ckpt: damaged"):
            read_checkpoint(written)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_half_file_is_noticed(written, share):
    whole = written.read_bytes()
    written.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(DataError, match=r"last\.ckpt: damaged"):
        check_whole(written)


@pytest.mark.parametrize("value", [[1, 2], {"state_dict": {}}, torch.ones(2)])
def test_another_file_of_torch_is_not_a_checkpoint(tmp_path, value):
    torch.save(value, tmp_path / "other.pth")

    with pytest.raises(DataError, match=r"other\.pth: not a checkpoint"):
        read_checkpoint(tmp_path / "other.pth")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code of the file ran",))


def test_nothing_in_the_file_is_run(tmp_path):
    torch.save({**content(), "callbacks": Bomb()}, tmp_path / "bomb.ckpt")
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps(Bomb()))

    for name in ("bomb", "pickle"):
        with pytest.raises(DataError, match=rf"{name}\.ckpt: (not a|damaged, or no) checkpoint"):
            read_checkpoint(tmp_path / f"{name}.ckpt")


SMALL = {"library": "torchvision", "backbone": "resnet18", "weights": "none"}


def test_a_checkpoint_of_the_other_kind_is_named(tmp_path):
    task = SegmenterTask.from_config(SegmenterConfig(), ("cat",))
    saved = {"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}
    torch.save(saved, tmp_path / "last.ckpt")

    assert SegmenterTask.from_checkpoint(tmp_path / "last.ckpt").classes == ["cat"]
    with pytest.raises(
        DataError,
        match=r"a checkpoint of SegmenterTask, .* ClassifierTask.*stage=classifier writes",
    ):
        ClassifierTask.from_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("change", [{"new_key": 1}, {"backbone": "resnet50"}])
def test_a_checkpoint_of_another_version_is_named(tmp_path, change):
    task = ClassifierTask.from_config(ClassifierConfig(**SMALL), ("cat", "dog"))
    hyper = {**task.hparams, "settings": {**task.hparams["settings"], **change}}
    torch.save({"hyper_parameters": hyper, "state_dict": task.state_dict()}, tmp_path / "last.ckpt")

    with pytest.raises(DataError, match=r"last\.ckpt: made by another version"):
        ClassifierTask.from_checkpoint(tmp_path / "last.ckpt")


LITE = {"library": "timm", "backbone": "tf_efficientnet_lite0"}


@pytest.mark.parametrize(
    ("settings", "mean"), [({}, [0.5, 0.5, 0.5]), ({"mean": [0.1, 0.2, 0.3]}, [0.1, 0.2, 0.3])]
)
def test_a_checkpoint_keeps_the_colours_it_was_trained_with(tmp_path, settings, mean):
    task = ClassifierTask.from_config(ClassifierConfig(**LITE, **settings), ("cat", "dog")).eval()
    hyper, tensors = dict(task.hparams), task.state_dict()
    torch.save({"hyper_parameters": hyper, "state_dict": tensors}, tmp_path / "last.ckpt")

    read = ClassifierTask.from_checkpoint(tmp_path / "last.ckpt")

    assert hyper["settings"]["mean"] == mean
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(mean)) / 0.5
    torch.testing.assert_close(read.inputs(white)[0, :, 0, 0], expected)
    assert torch.equal(read(white), task(white))


def test_a_checkpoint_from_before_colours_were_kept_has_imagenets(tmp_path):
    task = ClassifierTask.from_config(ClassifierConfig(**LITE), ("cat", "dog"))
    old = {k: v for k, v in task.hparams["settings"].items() if k not in ("mean", "deviation")}
    hyper = {**task.hparams, "settings": old}
    torch.save({"hyper_parameters": hyper, "state_dict": task.state_dict()}, tmp_path / "last.ckpt")

    assert ClassifierTask.from_checkpoint(tmp_path / "last.ckpt").colours == IMAGENET
