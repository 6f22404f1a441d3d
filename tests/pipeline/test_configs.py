"""Every YAML file composes; a typo is an error before anything runs."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.utils import get_method

from pipeline.errors import ConfigError
from pipeline.stages.context import build
from pipeline.stages.launch import plain
from pipeline.stages.schema import register_schema
from pipeline.tasks.backbones import build_classifier
from tests.conftest import ROOT, composed

CONFIGS = ROOT / "configs"
OPTIONS = sorted(
    (folder.name, path.relative_to(folder).with_suffix("").as_posix())
    for folder in CONFIGS.iterdir()
    if folder.is_dir() and folder.name not in ("experiment", "ablation")  # they set what is outside
    for path in folder.rglob("*.yaml")
)
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
LEFT_OUT = sorted(path.stem for path in (CONFIGS / "ablation").glob("*.yaml"))
CHANGED = sorted(  # of a recipe: classifier/consistency and so on
    path.relative_to(CONFIGS / "ablation").with_suffix("").as_posix()
    for path in (CONFIGS / "ablation").glob("*/*.yaml")
)
EXTRAPOLATED = sorted(
    path.stem for path in (CONFIGS / "saliency" / "gradual_extrapolation").glob("*.yaml")
)
NEEDED = {
    ("data", "voc"): ["data.root=x"],
    ("data", "folder"): ["data.images=x", "data.labels=y"],
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_to_typed_values(group, option):
    config = plain(composed(f"{group}={option}", *NEEDED.get((group, option), [])))

    node = getattr(config, group)
    target = node.get("_target_") if isinstance(node, dict) else None
    if target:
        assert callable(get_method(target))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment):
    config = plain(composed(f"experiment={experiment}", "data.root=x"))

    own_data = experiment == "photos"  # for anybody's
    assert config.run_dir == ("runs/voc" if own_data else f"runs/{experiment}")


def test_the_recipe_for_photos_is_the_one_that_was_measured():
    recipe, measured = (
        plain(composed(f"experiment={name}", "data.root=x", "classifier.weights=y"))
        for name in ("photos", "voc_animals")
    )

    for part in ("classifier", "saliency", "seed", "refine", "segmenter", "relabel"):
        assert getattr(recipe, part) == getattr(measured, part)
    assert recipe.evaluate.scales == measured.evaluate.scales


def test_the_recipe_for_photos_takes_a_folder_of_your_own():
    words = ("experiment=photos", "data=folder", "data.images=x", "data.labels=y")

    assert plain(composed(*words)).data["_target_"].endswith("load_folder")


@pytest.mark.parametrize("method", EXTRAPOLATED)
def test_what_is_extrapolated_is_the_method_as_it_is_alone(method):
    wrapped = plain(composed(f"saliency=gradual_extrapolation/{method}")).saliency
    alone = plain(composed(f"saliency={method}")).saliency

    base = {key: value for key, value in wrapped.method["base"].items() if key != "_partial_"}
    if method == "guided_backprop":  # at the image there is nothing to extrapolate
        assert alone.method["layer"] is None
        base["layer"] = None
    assert base == alone.method
    assert (wrapped.size, wrapped.scales, wrapped.flip) == (alone.size, alone.scales, alone.flip)


def sweep(experiment):
    """The values of each setting that the sweep of an experiment goes through."""
    register_schema()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("run", [f"experiment={experiment}"], return_hydra_config=True)
    words = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    overrides = OverridesParser.create().parse_overrides(words)
    return {override.key_or_group: list(override.sweep_string_iterator()) for override in overrides}


def test_the_sweep_of_the_ablation_has_each_method_twice_in_every_way():
    swept = sweep("saliency_ablation")

    assert list(swept) == ["random_seed", "saliency", "refine"]  # a classifier is used up first
    assert swept["random_seed"] == ["0", "1", "2"]
    assert len(swept["saliency"]) == len(set(swept["saliency"])) == 14
    methods = {name for name in swept["saliency"] if "extrapolation" not in name}
    assert methods == {"grad_cam", *EXTRAPOLATED}  # which is what is extrapolated by default
    assert swept["refine"][:2] == ["none", "crf"]


def test_every_method_of_the_ablation_explains_its_network():
    torch.manual_seed(0)
    network = build_classifier("torchvision", "mobilenet_v2", "none", 3).eval()
    images, targets = torch.rand(1, 3, 65, 97), torch.tensor([[0, 2]])
    for name in sweep("saliency_ablation")["saliency"]:
        words = ("experiment=saliency_ablation", f"saliency={name}")
        settings = plain(composed(*words)).saliency.method
        maps = build({**settings, "model": network}, "saliency.method").attribute(images, targets)

        assert maps.isfinite().all(), name
        assert maps.abs().max() > 0, name
        # What is extrapolated is as large as the first convolution's input, the image.
        assert "extrapolation" not in name or maps.shape[2:] == images.shape[2:], name


def test_the_sweep_of_the_chain_leaves_out_each_part_once():
    swept = sweep("chain_ablation")

    assert list(swept) == ["random_seed", "ablation"]
    assert swept["random_seed"] == ["0", "1", "2"]
    assert sorted(swept["ablation"]) == LEFT_OUT


@pytest.mark.parametrize("part", LEFT_OUT)
def test_an_ablation_changes_one_part_of_the_chain(part):
    full, left = (
        plain(composed("experiment=chain_ablation", f"ablation={name}")) for name in ("full", part)
    )

    changed = [key for key in vars(full) if getattr(full, key) != getattr(left, key)]
    assert len(changed) == (part != "full")
    assert set(changed) <= {"saliency", "seed", "refine"}


GROUPS = {  # of configs/ablation, by the experiment that goes through them
    "classifier": ["classifier"],
    "segmenter": ["segmenter"],
    "recipe": ["saliency", "seed"],
    "refine": ["refine"],
}


@pytest.mark.parametrize("experiment", GROUPS)
def test_the_sweep_of_an_ablation_changes_each_thing_once(experiment):
    swept = sweep(f"{experiment}_ablation")

    assert list(swept) == ["random_seed", "ablation"]
    assert swept["random_seed"] == ["0", "1", "2"]
    assert swept["ablation"][0] == "full"
    wanted = [name for name in CHANGED if name.partition("/")[0] in GROUPS[experiment]]
    assert sorted(set(swept["ablation"][1:]) - set(LEFT_OUT)) == wanted


def test_every_change_is_part_of_an_ablation():
    swept = {name.partition("/")[0] for name in CHANGED}

    assert swept == {group for groups in GROUPS.values() for group in groups}


@pytest.mark.parametrize("change", CHANGED)
def test_an_ablation_changes_one_thing(change):
    group = change.partition("/")[0]
    (experiment,) = (name for name, groups in GROUPS.items() if group in groups)
    words = f"experiment={experiment}_ablation"
    full, other = (plain(composed(words, f"ablation={name}")) for name in ("full", change))

    changed = {key for key in vars(full) if getattr(full, key) != getattr(other, key)}
    assert changed - {"refine"} == {group} - {"refine"}
    walk_looks_as_large = change == "classifier/larger_crops"
    assert ("refine" in changed) == (group == "refine" or walk_looks_as_large)


@pytest.mark.parametrize("chain", ["walk_crf", "par_crf", "superpixels_crf"])
def test_a_chain_takes_any_preset_of_the_crf(chain):
    with_preset = composed(f"refine={chain}", "refine@refine.steps.crf=crf_b")

    chain_settings = plain(with_preset).refine
    assert chain_settings["steps"]["crf"] == plain(composed("refine=crf_b")).refine
    assert list(chain_settings["steps"]) == [chain.removesuffix("_crf"), "crf"]


@pytest.mark.parametrize("data", ["shapes", "folder"])
def test_another_random_seed_has_the_same_data(data):
    words = [f"data={data}", *NEEDED.get(("data", data), [])]

    first, second = (plain(composed(*words, f"random_seed={seed}")).data for seed in (0, 1))

    assert first == second


def test_every_file_says_what_it_is():
    for path in CONFIGS.rglob("*.yaml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# "), f"{path.name} does not begin with a comment"


@pytest.mark.parametrize(
    "typo",
    ["segmenter.epocs=3", "seed.foregruond=0.4", "data.rooot=x", "classifier.epochs=many"],
)
def test_a_typo_fails_before_anything_runs(typo):
    with pytest.raises(ConfigCompositionException, match=typo.split("=")[0].split(".")[-1][:5]):
        composed(typo)


def test_a_typo_inside_an_experiment_file_fails_too(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.symlink_to(CONFIGS)
    extra = tmp_path / "more" / "experiment"
    extra.mkdir(parents=True)
    (extra / "typo.yaml").write_text("# @package _global_\nsegmenter:\n  epocs: 3\n")

    with (
        initialize_config_dir(str(CONFIGS), version_base="1.3"),
        pytest.raises(ConfigCompositionException, match="epocs"),
    ):
        compose(
            "run",
            overrides=[f"hydra.searchpath=[file://{tmp_path}/more]", "experiment=typo"],
        )


def test_a_value_without_default_is_asked_for_by_name():
    with pytest.raises(ConfigError, match=r"data\.root must be given"):
        plain(composed("data=voc"))


def test_no_configuration_names_a_path_of_one_machine():
    for path in CONFIGS.rglob("*.yaml"):
        values = [line.split("#")[0] for line in path.read_text().splitlines()]
        assert not any(": /" in value for value in values), f"{path.name} has an absolute path"
