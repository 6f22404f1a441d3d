"""The loss on held-out images: where it is looked at, and that it changes nothing."""

import csv

import pytest
import torch

from pipeline.commands import report
from pipeline.stages import classifier, held_out
from tests.pipeline.runs import do

LONG = ("data.train=40", "data.val=10", "classifier.epochs=12")


@pytest.mark.parametrize(
    ("learned", "held_out_images", "epochs"),
    [(400, 100, 40), (10582, 1449, 8), (1000, 100, 8), (400, 100, 1000), (5000, 9, 3)],
)
def test_at_most_one_image_is_looked_at_for_fifty_that_are_learned_from(
    learned, held_out_images, epochs
):
    images, every = held_out.plan(learned, held_out_images, epochs)

    looks = epochs // every + (epochs % every > 0)  # the last epoch is always looked at
    assert 8 <= images <= min(held_out_images, 64)
    assert looks * images <= learned * epochs / 50


@pytest.mark.parametrize("few", [(40, 10, 8), (4, 100, 10), (4000, 7, 40), (400, 0, 40)])
def test_there_is_no_curve_where_it_would_cost_time_or_say_nothing(few):
    assert held_out.plan(*few) is None


def logged(folder):
    """(step, loss) of the held-out images."""
    with (folder / "logs" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [(int(r["step"]), float(r[held_out.LOSS])) for r in rows if r.get(held_out.LOSS)]


def weights(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def test_a_training_with_the_curve_ends_with_the_same_weights(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "plan", lambda *_: None)
    plain = do(make_run(*LONG, folder=tmp_path / "plain"), "classifier").path
    monkeypatch.setattr(classifier, "plan", lambda *_: (8, 5))
    run = make_run(*LONG, folder=tmp_path / "curve")
    watched = do(run, "classifier").path

    assert logged(plain) == []
    assert [step for step, _ in logged(watched)] == [49, 99, 119]  # and after the last epoch
    before, after = weights(plain), weights(watched)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

    report.run(run)
    html = (run.folder / "report" / "index.html").read_text()
    assert f"held out {logged(watched)[-1][1]:.3g} after 120 steps" in html
    assert "10 images of val, mean average precision" in html


def test_it_is_the_loss_of_the_network_in_eval_mode(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "plan", lambda *_: (10, 12))
    run = make_run(*LONG, "trainer.precision=32-true", folder=tmp_path / "run")
    stage = do(run, "classifier").path

    task = classifier.ClassifierTask.from_checkpoint(stage / "last.ckpt")
    images = classifier.Squashed(run.data.val.items, 64, len(run.data.classes))
    batch = torch.utils.data.default_collate([images[k] for k in range(10)])
    with torch.no_grad():
        expected = float(task.loss_of(batch))

    assert logged(stage) == [(119, pytest.approx(expected, abs=1e-5))]
