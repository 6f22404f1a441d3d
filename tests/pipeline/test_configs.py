"""Every YAML file composes; a typo is an error before anything runs."""

import pytest
from hydra.errors import ConfigCompositionException
from hydra.utils import get_method

from pipeline.errors import ConfigError
from pipeline.stages.launch import plain
from tests.conftest import ROOT, composed

OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in (ROOT / "configs").glob("*/*.yaml")
    if path.parent.name != "experiment"
)
EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
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
    config = plain(composed(f"experiment={experiment}"))

    assert config.run_dir == f"runs/{experiment}"


def test_every_file_says_what_it_is():
    for path in (ROOT / "configs").rglob("*.yaml"):
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
    from hydra import compose, initialize_config_dir

    folder = tmp_path / "configs"
    folder.symlink_to(ROOT / "configs")
    extra = tmp_path / "more" / "experiment"
    extra.mkdir(parents=True)
    (extra / "typo.yaml").write_text("# @package _global_\nsegmenter:\n  epocs: 3\n")

    with (
        initialize_config_dir(str(ROOT / "configs"), version_base="1.3"),
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
    for path in (ROOT / "configs").rglob("*.yaml"):
        values = [line.split("#")[0] for line in path.read_text().splitlines()]
        assert not any(": /" in value for value in values), f"{path.name} has an absolute path"
