"""What SECURITY.md says of files from elsewhere: they are read as data, and nothing in them runs.

Ids and paths are in tests/pipeline/data, names in the terminal in tests/pipeline/base, formulas and
markup in tests/pipeline/report, settings of a run's folder in tests/pipeline/commands.
"""

import io
import pickle
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.base.errors import ConfigError, DamagedFileError, DataError
from pipeline.data.catalogue import Item
from pipeline.data.labels import read_xml_labels
from pipeline.data.truth import boxes_of
from pipeline.report.page import Commands, Facts, Page, Section, Text, render
from pipeline.report.tables import Cell, Column, Table
from pipeline.run.building import targets
from pipeline.run.schema import named_after
from pipeline.run.shipped import build_recorded
from pipeline.stages.maps import map_path, read_maps
from pipeline.tasks.checkpoints import AtomicCheckpoints, read_checkpoint
from pipeline.tasks.segmenter import SegmenterTask
from tests.conftest import ROOT
from tsgb.explain.state_dicts import WeightsError, read_state_dict


class Command:
    """A pickle that makes a file when it is read the wrong way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def command(tmp_path):
    return Command(tmp_path / "done")


READERS = [
    pytest.param(read_checkpoint, DataError, id="checkpoint"),
    pytest.param(SegmenterTask.from_checkpoint, DataError, id="segmenter"),
    pytest.param(lambda path: AtomicCheckpoints().load_checkpoint(path), DataError, id="resume"),
    pytest.param(read_state_dict, WeightsError, id="weights"),
]


@pytest.mark.parametrize(("read", "error"), READERS)
@pytest.mark.parametrize("legacy", [True, False])
def test_pickles_are_never_run(tmp_path, command, read, error, legacy):
    path = tmp_path / "last.ckpt"
    content = {"hyper_parameters": {"settings": command}, "state_dict": {"w": torch.ones(1)}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)

    with pytest.raises(error, match=r"last\.ckpt"):
        read(path)

    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(("read", "error"), READERS)
def test_plain_pickles_are_never_run(tmp_path, command, read, error):
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(command))

    with pytest.raises(error, match=r"last\.ckpt"):
        read(tmp_path / "last.ckpt")

    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(("read", "error"), READERS)
def test_compressed_checkpoints_are_not_unfolded(tmp_path, read, error):
    stream = io.BytesIO()
    torch.save({"hyper_parameters": {}, "state_dict": {"w": torch.zeros(10**6)}}, stream)
    packed = tmp_path / "packed.ckpt"
    with zipfile.ZipFile(stream) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for record in whole.namelist():
            to.writestr(record, whole.read(record))

    with pytest.raises(error, match="compressed"):
        read(packed)


def of_two_classes(tmp_path):
    item = Item("a", tmp_path / "a.jpg", (0, 1))
    map_path(tmp_path, item).parent.mkdir()
    return item, map_path(tmp_path, item)


def test_maps_are_no_pickles(tmp_path, command):
    item, path = of_two_classes(tmp_path)
    np.savez(path, maps=np.array([command, command], dtype=object))

    with pytest.raises(DamagedFileError, match=r"a\.npz: damaged"):
        read_maps(tmp_path, item)

    assert not (tmp_path / "done").exists()


def test_no_maps_of_an_image_without_classes_are_read_too(tmp_path):
    item, path = of_two_classes(tmp_path)
    np.savez_compressed(path, maps=np.zeros((0, 64, 64), np.float16))

    assert read_maps(tmp_path, replace(item, labels=())).shape == (0, 64, 64)


def test_a_file_that_is_none_brings_no_advice_to_trust_it(tmp_path):
    item, path = of_two_classes(tmp_path)
    path.write_bytes(bytes(1000))

    with pytest.raises(DamagedFileError, match=r"a\.npz: damaged") as caught:
        read_maps(tmp_path, item)

    assert "pickle" not in str(caught.value)


def test_maps_that_unfold_to_more_than_an_image_are_not_read(tmp_path, monkeypatch):
    item, path = of_two_classes(tmp_path)
    np.savez_compressed(path, maps=np.zeros((2, 64, 64), np.float32))
    assert read_maps(tmp_path, item).shape == (2, 64, 64)

    monkeypatch.setattr("pipeline.stages.maps._MOST", 64 * 64 * 4 // 2)

    with pytest.raises(DamagedFileError, match=r"32\d\d\d bytes for 2 classes"):
        read_maps(tmp_path, item)


LAUGHS = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 10))
DOCUMENTS = [
    pytest.param(f'[<!ENTITY l0 "cat">{LAUGHS}]', "&l9;", id="billion-laughs"),
    pytest.param(f'[<!ENTITY e "{"a" * 10**5}">]', "&e;" * 20000, id="quadratic"),
    pytest.param('[<!ENTITY e SYSTEM "file:///etc/passwd">]', "&e;", id="file"),
    pytest.param('[<!ENTITY e SYSTEM "http://localhost/x">]', "&e;", id="address"),
]


@pytest.mark.parametrize(("declared", "used"), DOCUMENTS)
def test_annotations_do_not_unfold_or_read_other_files(tmp_path, declared, used):
    text = f"<!DOCTYPE x {declared}><annotation><object><name>{used}</name></object></annotation>"
    (tmp_path / "a.xml").write_text(text)

    with pytest.raises(DataError, match=r"a\.xml"):
        read_xml_labels(tmp_path, ["a"], ["cat"])
    with pytest.raises(DataError, match=r"a\.xml"):
        boxes_of(tmp_path / "a.xml", ["cat"], (4, 4))


def test_pages_escape_what_they_show(tmp_path, monkeypatch):
    evil = "<script>alert(1)</script>\" onerror='x' {{ 7 * 7 }}"

    blocks = [Text(evil), Facts({evil: evil}), Commands({evil: evil})]
    table = Table(evil, [Column(evil, "text", evil)], [[Cell(evil, lines=[evil], more=evil)]])
    html = render(Page(evil, evil, evil, [Section(evil, [*blocks, table])]))

    assert "<script>alert" not in html
    assert "onerror='x'" not in html
    assert html.count("{{ 7 * 7 }}") == html.count("alert(1)") > 3


@pytest.mark.parametrize(
    "hidden",
    [
        {"steps": {"a": {"_target_": "os.system"}}},
        {"steps": [{"_target_": "os.system"}]},
        {"steps": [[{"a": ({"_target_": "os.system"},)}]]},
    ],
)
def test_code_in_what_a_run_recorded_is_found_wherever_it_hides(hidden):
    node = {"_target_": "pipeline.masks.refine.Chain", **hidden}

    assert sorted(targets(node)) == ["os.system", "pipeline.masks.refine.Chain"]
    with pytest.raises(ConfigError, match=r"manifest\.json: names os\.system"):
        build_recorded(node, "manifest.json")


def test_references_in_what_a_run_recorded_are_refused():
    node = {
        "_target_": "pipeline.masks.refine.Chain",
        "steps": "${oc.create:{_target_: os.system}}",
    }

    with pytest.raises(ConfigError, match=r"manifest\.json: names \$\{\.\.\.\}"):
        build_recorded(node, "manifest.json")


def test_no_code_reads_what_could_run():
    """New readers of pickles, YAML or archives must be named here, and in SECURITY.md."""
    words = ("pickle.load", "weights_only=False", "allow_pickle=True", "yaml.load", "yaml.unsafe",
             "extractall", "shell=True", "os.system", "|safe", "| safe")  # fmt: skip
    files = [path for room in ("tsgb", "pipeline") for path in (ROOT / room).rglob("*")]
    texts = {p: p.read_text() for p in files if p.suffix in (".py", ".html")}

    assert [(path.name, w) for path, text in texts.items() for w in words if w in text] == []
    loads = {path.name: text.count("torch.load(") for path, text in texts.items()}
    safe = {path.name: text.count("weights_only=True") for path, text in texts.items()}
    assert {name: count for name, count in loads.items() if count > safe[name]} == {}
    assert sum(loads.values()) == 2


@pytest.mark.parametrize(
    "folder", ["..", "photos/..", "a/../..", ".", "/", "", "photos/.", "a/b/../"]
)
def test_a_run_is_never_named_after_a_way_out(folder, tmp_path, monkeypatch):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "deeper")

    assert re.fullmatch(r"[\w-][\w.-]*", named_after(folder))
