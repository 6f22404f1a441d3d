"""The command line as a person uses it."""

import pytest
from omegaconf import OmegaConf

from pipeline.base.files import read_json
from pipeline.commands import launch
from tests.conftest import TINY
from tests.pipeline.runs import command


def test_help_shows_the_five_commands_the_stages_and_the_choices():
    done = command("--help")

    assert done.returncode == 0
    for text in ("data=voc", "data=folder", "stage=pseudo_labels", "stage=explain", "tsgb, cam, "):
        assert text in done.stdout
    assert len(done.stdout.splitlines()) <= 60


def test_an_error_is_a_message_not_a_traceback(tmp_path):
    done = command("data=voc", f"data.root={tmp_path}", f"run_dir={tmp_path / 'run'}")

    assert done.returncode == 1
    assert "DataError" in done.stderr
    assert str(tmp_path) in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr


def test_a_run_leaves_its_config_versions_seed_and_revision(tmp_path, shapes_root):
    folder = tmp_path / "run"
    words = (*TINY, f"data.root={shapes_root}", f"run_dir={folder}", "stage=classifier")
    done = command(*words, "logger=tensorboard")

    assert done.returncode == 0, done.stderr
    facts = read_json(folder / "provenance.json")
    assert facts["random_seed"] == 0
    assert {"git", "python"} <= facts.keys()
    assert facts["packages"]["torch"].startswith("2.")
    assert (folder / "config.yaml").is_file()
    assert list((folder / "classifier").glob("*/logs/metrics.csv"))
    assert list((folder / "classifier").rglob("events.out.tfevents*"))


@pytest.mark.parametrize("typo", ["segmenter.epocs=3", "stage=clasifier"])
def test_a_typo_is_named(typo):
    done = command(typo)

    assert done.returncode == 1
    assert typo.split("=")[0].split(".")[-1] in done.stderr


def test_a_sweep_trains_one_classifier(tmp_path, shapes_root):
    folder = tmp_path / "run"
    words = (*TINY, f"data.root={shapes_root}", f"run_dir={folder}", "stage=pseudo_labels")
    command(*TINY, f"data.root={shapes_root}", f"run_dir={folder}", "stage=classifier")

    done = command("-m", *words, "saliency=tsgb,cam")

    assert done.returncode == 0, done.stderr
    assert len(list((folder / "classifier").iterdir())) == 1
    assert {p.name.split("-")[0] for p in (folder / "pseudo_labels").iterdir()} == {"CRFRefinement"}
    assert {p.name.split("-")[0] for p in (folder / "saliency").iterdir()} == {"TSGB", "CAM"}
    assert len(list(folder.glob("sweeps/*/*/provenance.json"))) == 2


def test_a_job_that_fails_does_not_take_the_sweep_with_it(tmp_path, shapes_root):
    folder = tmp_path / "run"
    words = (*TINY, f"data.root={shapes_root}", f"run_dir={folder}", "stage=masks")

    done = command("-m", *words, "seed.threshold=2.5,0.45,3.5")  # no level is above 1

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for level in ("2.5", "3.5"):
        assert f"threshold={level}" in done.stderr
    assert done.stderr.count("The other jobs go on") == 2
    assert len(list(folder.glob("pseudo_labels/*/masks"))) == 1


def test_a_crash_within_a_sweep_shows_its_trace_and_is_one_job(tmp_path, monkeypatch, capsys):
    def crash(config, folder, words):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(launch, "_launch", crash)

    with pytest.raises(launch.JobFailedError, match="RuntimeError: out of memory"):
        launch.launch({}, job=tmp_path)
    assert "in crash" in (tmp_path / "run.log").read_text()
    assert "in crash" in capsys.readouterr().err


def test_a_crash_shows_its_trace_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def crash(config, folder, words):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(launch, "_launch", crash)

    with pytest.raises(SystemExit, match="1"):
        launch.launch(OmegaConf.create({"run_dir": str(tmp_path / "run")}))
    assert not (tmp_path / "run").exists()
    *trace, name, how = capsys.readouterr().err.splitlines()
    assert any("in crash" in line for line in trace)
    assert name == "RuntimeError: out of memory"
    assert how == "What is finished is kept: the same command goes on from here."
