"""Every study composes and runs on tiny data; each variant changes what it says and no more."""

import csv
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch
import torchvision
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf.errors import OmegaConfBaseException

from pipeline.commands import compare
from pipeline.commands.launch import carry_out
from pipeline.networks.backbones import build_classifier
from pipeline.run.building import build
from pipeline.run.run import Run
from pipeline.run.settings import plain
from tests.conftest import ROOT, TINY, composed

spec = spec_from_file_location("study", ROOT / "scripts" / "study.py")
study = module_from_spec(spec)
sys.modules["study"] = study
spec.loader.exec_module(study)

STUDIES = {path.stem: study.read_study(path) for path in sorted((ROOT / "studies").glob("*.yaml"))}
VARIANTS = [(name, variant) for name, found in STUDIES.items() for variant in found.variants]
GROUPS = {  # of the configuration that the variants of a study change
    "chain": {"saliency", "seed", "refine"},
    "classifier": {"classifier", "saliency", "refine"},  # sizes follow the classifier's
    "recipe": {"saliency", "seed"},
    "refine": {"refine"},
    "saliency": set(),
    "segmenter": {"segmenter"},
}


def settings_of(name, *variant, more=()):
    """The settings of a variant, those of the sweep left at their defaults."""
    found = STUDIES[name]
    words = [word for key in variant for word in found.variants[key]]
    return plain(composed(*found.base, "data.root=x", *words, *more))


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_variant_changes_what_the_study_is_about(name, variant):
    full, other = settings_of(name, "full"), settings_of(name, variant)

    changed = {key for key in vars(full) if getattr(full, key) != getattr(other, key)}
    assert changed <= GROUPS[name]
    assert bool(changed) == (variant != "full")


def test_methods_are_compared_without_competition_at_the_thresholds_of_the_built_in_data():
    seed = settings_of("saliency").seed

    assert (seed.competition, seed.threshold, seed.foreground, seed.background) == (
        0,
        0.5,
        0.5,
        0.4,
    )


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "saliency"])
def test_no_two_variants_are_the_same(name):
    seen = [settings_of(name, variant) for variant in STUDIES[name].variants]

    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])


def test_every_study_has_three_random_seeds():
    for found in STUDIES.values():
        assert found.sweep[0] == "random_seed=0,1,2"


def test_every_method_of_the_study_explains_its_network():
    (swept,) = (
        override
        for override in OverridesParser.create().parse_overrides(STUDIES["saliency"].sweep)
        if override.get_key_element() == "saliency"
    )
    torch.manual_seed(0)
    network = build_classifier("torchvision", "mobilenet_v2", "none", 3).eval()
    images, targets = torch.rand(1, 3, 65, 97), torch.tensor([[0, 2]])
    for name in swept.sweep_string_iterator():
        method = settings_of("saliency", more=[f"saliency={name}"]).saliency.method
        maps = build({**method, "model": network}, "saliency.method").attribute(images, targets)

        assert maps.isfinite().all(), name
        assert maps.abs().max() > 0, name


def on_tiny_data(data_root, weights):
    """Overrides that make a study of photos small."""
    small = [word for word in TINY if not word.startswith(("data.", "refine."))]
    return [
        *small, f"data.root={data_root}", "data.train=train",
        f"data.classes={data_root}/classes.txt", f"data.labels={data_root}/image_labels.csv",
        "data.train_masks=SegmentationClass", f"classifier.weights={weights}",
        "segmenter.weights=none", "evaluate.classes=[star,ring]", "classifier.min_steps=0",
        "segmenter.min_steps=0",
    ]  # fmt: skip


@pytest.fixture
def words(make_run, tmp_path):
    run = make_run()
    assert run.data  # which draws the data
    weights = tmp_path / "weights.pth"  # or no layer may be frozen
    torch.save(torchvision.models.mobilenet_v2().state_dict(), weights)
    return on_tiny_data(run.settings.data["root"], weights)


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "saliency"])
def test_every_variant_runs_and_is_a_line_of_the_table(name, words, tmp_path):
    found, few = STUDIES[name], [] if name == "segmenter" else ["saliency.images=2"]
    for variant in found.variants.values():
        own = {word.partition("=")[0] for word in variant}
        kept = [word for word in words if word.partition("=")[0] not in own]
        run = Run(plain(composed(*found.base, *variant, *kept, *few)), tmp_path / "run")
        carry_out(run)
    compare.run(run)

    rows = table(run.folder)
    assert len(rows) == len(found.variants)
    if name != "refine":
        assert sum(row["difference"] == "" for row in rows) == 1  # the reference


def table(folder):
    with (folder / "compare" / "table.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_study_is_one_command_and_one_table(make_run, shapes_root, tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(
        "base: [stage=masks]\n"
        "sweep: ['random_seed=0,1', 'refine=none,crf']\n"
        "variants: {full: [], cam: [saliency=cam]}\n"
    )
    words = [word for word in TINY if word != "refine.iterations=2"]

    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "study.py", file, "random_seed=0", *words,
         f"data.root={shapes_root}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "small_study"
    assert {(row["saliency"], row["refine"]) for row in table(folder)} == {
        ("tsgb", "none"), ("tsgb", "crf"), ("cam", "none"), ("cam", "crf"),
    }  # fmt: skip
    made = {stage: len(list((folder / stage).iterdir())) for stage in ("classifier", "saliency")}
    assert made == {"classifier": 1, "saliency": 2}


def test_a_study_with_a_misspelt_key_is_refused(tmp_path):
    (tmp_path / "typo.yaml").write_text("base: []\nsweeps: []\nvariants: {full: []}\n")

    with pytest.raises(OmegaConfBaseException, match="sweeps"):
        study.read_study(tmp_path / "typo.yaml")
