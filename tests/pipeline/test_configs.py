"""Every YAML file composes; a typo is an error before anything runs."""

import re
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import get_method

from pipeline.base.config import Command
from pipeline.base.errors import ConfigError
from pipeline.run.settings import plain
from tests.conftest import ROOT, composed

CONFIGS = ROOT / "configs"
OUTSIDE = ("experiment", "launcher")  # groups that set what is outside of them
OPTIONS = sorted(
    (folder.name, path.relative_to(folder).with_suffix("").as_posix())
    for folder in CONFIGS.iterdir()
    if folder.is_dir() and folder.name not in OUTSIDE
    for path in folder.rglob("*.yaml")
)
EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
LAUNCHERS = sorted(path.stem for path in (CONFIGS / "launcher").glob("*.yaml"))
NEEDED = {
    ("data", "voc"): ["data.root=x"],
    ("data", "folder"): ["data.images=x", "data.labels=y"],
    ("classifier", "timm"): ["classifier.backbone=resnet18"],
    ("segmenter", "deeplabv3plus_timm"): ["classifier.backbone=resnet18"],
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_to_typed_values(group, option):
    config = plain(composed(f"{group}={option}", *NEEDED.get((group, option), [])))

    node = getattr(config, group)
    target = node.get("_target_") if isinstance(node, dict) else None
    if target:
        assert callable(get_method(target))


def test_help_lists_every_option_and_command_and_fits_a_screen():
    text = (CONFIGS / "run.yaml").read_text().partition("template: |")[2]

    outside = {"experiment": EXPERIMENTS, "launcher": LAUNCHERS}
    others = [(group, name) for group, names in outside.items() for name in names]
    for group, option in [*OPTIONS, *others]:
        listed = text[text.index(f"\n        {group} ") :]
        assert re.search(rf"\b{option}\b", listed), f"{group}={option}"
    for command in Command:
        assert re.search(rf"\b{command}\b", text), command
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment):
    config = plain(composed(f"experiment={experiment}", "data.root=/there/my_photos"))

    own_data = experiment == "photos"  # for anybody's
    assert config.run_dir == ("runs/my_photos" if own_data else f"runs/{experiment}")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_hands_jobs_to_submitit(launcher):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("run", overrides=[f"launcher={launcher}"], return_hydra_config=True)

    assert config.hydra.launcher["_target_"].endswith(f".{launcher.capitalize()}Launcher")
    assert config.hydra.launcher.timeout_min == 1440


def test_the_recipe_for_photos_is_the_one_that_was_measured():
    recipe, measured = (
        plain(composed(f"experiment={name}", "data.root=x", "classifier.weights=y"))
        for name in ("photos", "voc_animals")
    )

    for part in ("classifier", "saliency", "seed", "refine", "segmenter", "relabel"):
        assert getattr(recipe, part) == getattr(measured, part)
    assert recipe.evaluate.scales == measured.evaluate.scales


def test_four_words_put_the_recipe_for_photos_on_the_smaller_network():
    words = (
        "classifier=mobilenet_v2", "segmenter=deeplabv3plus", "seed=competing",
        "segmenter.freeze_batchnorm=false",
    )  # fmt: skip
    shorter, whole = (
        plain(composed(f"experiment={name}", "data.root=x", "classifier.weights=y", *more))
        for name, more in (("photos", words), ("voc_animals_mobilenet_v2", ()))
    )

    for part in ("classifier", "saliency", "seed", "refine", "segmenter", "relabel"):
        assert getattr(shorter, part) == getattr(whole, part)
    text = (CONFIGS / "experiment" / "photos.yaml").read_text()
    assert " ".join(words) in text.replace("\n", " ")


def test_the_recipe_for_small_cards_takes_half_batches_at_half_the_rate_and_no_more():
    large, small = (
        plain(composed(f"experiment=voc2012_resnet50{name}", "data.root=x"))
        for name in ("", "_16gb")
    )

    halved = replace(
        large.segmenter,
        batch_size=large.segmenter.batch_size // 2,
        learning_rate=large.segmenter.learning_rate / 2,
        head_learning_rate=large.segmenter.head_learning_rate / 2,
    )
    data = {**large.data, "name": small.data["name"]}
    assert small == replace(large, run_dir=small.run_dir, data=data, segmenter=halved)


def test_the_recipe_for_photos_takes_a_folder_of_your_own():
    words = ("experiment=photos", "data=folder", "data.images=x", "data.labels=y")

    assert plain(composed(*words)).data["_target_"].endswith("load_folder")


@pytest.mark.parametrize("chain", ["walk_crf", "par_crf"])
def test_a_chain_takes_any_preset_of_the_crf(chain):
    with_preset = composed(f"refine={chain}", "refine@refine.steps.crf=crf_b")

    chain_settings = plain(with_preset).refine
    assert chain_settings["steps"]["crf"] == plain(composed("refine=crf_b")).refine
    assert list(chain_settings["steps"]) == [chain.removesuffix("_crf"), "crf"]


@pytest.mark.parametrize("data", ["shapes", "defects", "folder"])
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
