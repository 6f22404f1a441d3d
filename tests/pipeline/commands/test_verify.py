"""`stage=verify`, and damage that is found before something is made with it."""

import shutil

import pytest

from pipeline.base.errors import DamagedFileError, MissingArtifactError
from pipeline.stages.label_images import mask_path
from tests.pipeline.runs import do


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_run_is_verified(copied, capsys):
    do(copied, "verify")

    assert dict(copied.terminal.lines)["verified"].startswith("7 stages")


def test_every_changed_and_every_lost_file_is_named(copied):
    masks, checkpoint = copied.stage("pseudo_labels").path, copied.stage("segmentation").path
    items = copied.data.train.items
    flip_a_bit(mask_path(masks, "masks", items[0]))
    mask_path(masks, "seeds", items[1]).unlink()
    flip_a_bit(checkpoint / "last.ckpt")

    with pytest.raises(DamagedFileError) as raised:
        do(copied, "verify")

    text = str(raised.value)
    assert "3 file(s) are not what the stages wrote" in text
    assert f"{mask_path(masks, 'masks', items[0])}: changed" in text
    assert f"{mask_path(masks, 'seeds', items[1])}: gone" in text
    assert f"{checkpoint / 'last.ckpt'}: changed" in text
    assert not copied.stage("pseudo_labels").is_done


def test_what_verify_found_is_made_anew_and_equal(copied):
    path = mask_path(copied.stage("pseudo_labels").path, "masks", copied.data.train.items[0])
    whole = path.read_bytes()
    flip_a_bit(path)
    with pytest.raises(DamagedFileError):
        do(copied, "verify")

    do(copied, "pseudo_labels")

    assert path.read_bytes() == whole


def test_a_flipped_bit_in_a_weight_is_found_before_maps_are_made_with_it(copied):
    flip_a_bit(copied.stage("classifier").path / "last.ckpt")
    shutil.rmtree(copied.folder / "saliency")

    with pytest.raises(DamagedFileError, match=r"1 file\(s\) are not what the stage wrote"):
        do(copied, "saliency")

    assert (copied.stage("classifier").path / "last.ckpt.damaged").exists()
    with pytest.raises(MissingArtifactError, match="classifier"):
        do(copied, "saliency")


def test_a_folder_without_stages_is_no_run(make_run, tmp_path):
    for command in ("verify", "report"):
        with pytest.raises(MissingArtifactError, match="no stage has run here"):
            do(make_run(folder=tmp_path / "typo"), command)
    assert not (tmp_path / "typo").exists()
