"""No word is taken for something else: names that do not exist are answered by those that do."""

from importlib import metadata

import pytest

from pipeline.base.errors import ConfigError
from pipeline.commands.command_line import understand
from pipeline.commands.remembered import SETTINGS, remember
from pipeline.run.schema import register_schema

register_schema()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segmenter.epoch=3"], r"no setting segmenter\.epoch\. Did you mean segmenter\.epochs\?"),
        (["+segmenter.epoch=3"], r"Did you mean segmenter\.epochs\?"),
        (["++segmenter.epoch=3"], r"Did you mean segmenter\.epochs\?"),
        (["segmenter.epochs.more=3"], r"no setting segmenter\.epochs\.more"),
        (["epochs=3"], r"Did you mean classifier\.epochs or segmenter\.epochs\?"),
        (["clasifier.epochs=3"], r"Did you mean classifier\.epochs\?"),
        (["seed.nothing_like_it=3"], r"Known are seed\.competition, seed\.power"),
        (["+unheard_of=3"], "Known are run_dir, random_seed, stage"),
        (["saliency=gradcam"], "no option of saliency. Did you mean grad_cam"),
        (["-m", "saliency=tsgb,gradcam"], "saliency=gradcam: no option"),
        (["experiment=photo"], "Did you mean photos"),
        (["stage=clasifier"], "Did you mean classifier"),
        (["classifier.optimizer=adam"], "no value of classifier.optimizer. Did you mean adamw"),
        (["segmenter.epochs=ten"], "takes a whole number"),
        (["evaluate.flip=maybe"], "takes true or false"),
        (["evaluate.scales=0.5"], r"takes a list in brackets.*\[0\.5,1\.0\]"),
        (["data=voc"], r"data\.root must be given"),
        (["data=folder"], r"data\.images, data\.labels must be given"),
        (["~segmenter.epochs"], "cannot be left out"),
        (["report"], r"Did you mean stage=report\?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_exist_is_answered_by_what_does(words, message):
    with pytest.raises(ConfigError, match=message) as raised:
        understand(words)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["stage=report", "seed.threshold=0.3", "refine@refine.steps.crf=crf_b", "refine=walk_crf"],
        ["-m", "saliency=tsgb,cam", "random_seed=range(0,3)"],
        ["compare.by=null", "saliency.method.kappa=0.3", "hydra.verbose=true"],
        ["segmenter.loss={_target_: torch.nn.CrossEntropyLoss, ignore_index: 255}"],
        ["data=folder", "data.images=/x/a=b (1)", "data.labels=~/ü.csv", "experiment=photos"],
    ],
    ids=str,
)
def test_what_exists_passes(words):
    line = understand(words)

    assert len(line.arguments) == len(words)


def test_flags_may_stand_anywhere():
    assert understand(["stage=report", "-m", "seed.power=1,2"]).arguments[0] == "-m"
    assert understand(["--help", "nonsense"]).arguments == ["--help", "nonsense"]


def test_a_run_keeps_its_settings_and_a_command_changes_what_it_is_given(tmp_path):
    first = understand([f"run_dir={tmp_path}", "seed.threshold=0.3", "seed=power", "stage=masks"])
    remember(tmp_path, first.lasting)

    later = understand([f"run_dir={tmp_path}", "stage=report"])
    other = understand([f"run_dir={tmp_path}", "seed.threshold=0.4"])
    chosen = understand([f"run_dir={tmp_path}", "seed=two_thresholds"])

    assert later.arguments == [
        "seed.threshold=0.3", "seed=power", f"run_dir={tmp_path}", "stage=report",
    ]  # fmt: skip
    assert other.arguments == ["seed=power", f"run_dir={tmp_path}", "seed.threshold=0.4"]
    assert chosen.arguments == [f"run_dir={tmp_path}", "seed=two_thresholds"]


def test_the_first_command_decides_until_the_file_is_edited(tmp_path):
    remember(tmp_path, ["seed.threshold=0.3"])
    remember(tmp_path, ["seed.threshold=0.9"])
    (tmp_path / "new").mkdir()

    assert "seed.threshold=0.3" in understand([f"run_dir={tmp_path}"]).arguments
    (tmp_path / SETTINGS).write_text("# mine\n\nseed.threshold=0.6\n")
    assert "seed.threshold=0.6" in understand([f"run_dir={tmp_path}"]).arguments
    assert understand([f"run_dir={tmp_path}/new"]).remembered is None


def test_paths_last_from_wherever_a_later_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "a=b.csv").touch()
    monkeypatch.chdir(tmp_path)
    words = ["data=folder", "data.images=photos", "data.labels=a=b.csv", "segmenter.labels=pseudo"]

    kept = understand(words).lasting

    assert kept == [
        "data=folder",
        f'data.images="{tmp_path}/photos"',
        f'data.labels="{tmp_path}/a=b.csv"',
        "segmenter.labels=pseudo",
    ]


def test_what_is_of_one_command_only_does_not_last():
    words = ["-m", "stage=compare", "run_dir=x", "seed.power=1,2", "compare.by=seed", "seed=power"]

    assert understand(words).lasting == ["seed=power"]


def test_a_damaged_file_of_settings_is_named(tmp_path):
    (tmp_path / SETTINGS).write_bytes(b"seed.threshold=0.3\nsegmenter.epoch=3\n")
    with pytest.raises(ConfigError, match=r"segmenter\.epoch"):
        understand([f"run_dir={tmp_path}"])
    (tmp_path / SETTINGS).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=rf"{SETTINGS}: .*UTF-8"):
        understand([f"run_dir={tmp_path}"])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("segmenter.loss._target_=os.system", id="key"),
        pytest.param("segmenter.loss={_target_: os.system, command: touch x}", id="dictionary"),
        pytest.param("segmenter.loss={a: [{_target_: os.system}]}", id="in-a-list"),
        pytest.param("segmenter.loss={'_target_': 'os.system'}", id="quoted"),
        pytest.param("++segmenter.loss._target_='os.system'", id="quoted-value"),
        pytest.param("segmenter.loss._target_=${data.name}", id="reference"),
        pytest.param("segmenter.loss=${oc.create:'{_target_: x}'}", id="resolver"),
        pytest.param("data.name=${oc.env:HOME}", id="environment"),
        pytest.param("segmenter.loss._target_=pipeline.base.files.os.system", id="by-a-module"),
        pytest.param("hydra.run.dir=/tmp/elsewhere", id="hydra"),
        pytest.param("hydra/launcher=joblib", id="hydra-group"),
        pytest.param("saliency=[../../tmp/evil]", id="file"),
        pytest.param("explain.output=/tmp/x.png", id="passing"),
        pytest.param("compare.by=seed", id="compare"),
    ],
)
def test_a_run_folder_cannot_choose_code(tmp_path, line):
    (tmp_path / SETTINGS).write_text(f"{line}\n")

    with pytest.raises(ConfigError, match=r"can come from anybody|cannot be read"):
        understand([f"run_dir={tmp_path}", "stage=report"])


@pytest.mark.parametrize(
    "line",
    [
        "segmenter.loss._target_=pipeline.tasks.losses.BalancedCrossEntropy",
        "saliency.method={_target_: tsgb.CAM, layer: null}",
        "data.labels=${data.root}/labels.csv",
        "saliency=cam",
        "evaluate.classes=[cat, dog]",
    ],
)
def test_what_this_project_ships_may_be_remembered(tmp_path, line):
    (tmp_path / SETTINGS).write_text(f"data=voc\ndata.root=x\n{line}\n")

    words = understand([f"run_dir={tmp_path}", "stage=report"]).arguments

    assert any(line.partition("=")[0] in word for word in words)


def test_code_that_the_command_itself_names_is_trusted(tmp_path):
    line = "segmenter.loss._target_=torch.nn.CrossEntropyLoss"
    (tmp_path / SETTINGS).write_text(f"{line}\n")

    words = understand([f"run_dir={tmp_path}", "stage=report", line]).arguments

    assert "++segmenter.loss._target_=torch.nn.CrossEntropyLoss" in words


def test_a_launcher_without_a_sweep_is_refused():
    with pytest.raises(ConfigError, match="only the jobs of a sweep are queued"):
        understand(["launcher=local"])


def test_a_launcher_without_its_extra_names_it(monkeypatch):
    def gone(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", gone)

    with pytest.raises(ConfigError, match=r"tsgb\[slurm\]"):
        understand(["-m", "launcher=slurm", "random_seed=0,1"])
