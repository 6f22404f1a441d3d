"""`benchmarks/gpu.py` on whatever device this machine has."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import QUICK, Bench, Row

STAGES = ("maps", "dense CRF", "classifier step", "segmenter step", "prediction", "loader")


@pytest.fixture(autouse=True)
def _without_its_tests(monkeypatch):
    monkeypatch.setattr(gpu, "run_tests", lambda _: pytest.fail("tests within a test"))


def test_every_stage_has_a_speed(capsys):
    gpu.main(["--quick"])

    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    rows = [row for row in rows if row]
    assert {row[0] for row in rows} == set(STAGES)
    assert all(float(row[2]) > 0 for row in rows)
    limited = [row[0] for row in rows if row[3]]
    assert set(limited) == set(STAGES) - {"dense CRF", "loader"}


def cells(bench):
    return [list(column.cells) for column in bench.table.columns]


def test_after_the_time_nothing_is_measured():
    bench = Bench(QUICK, "cpu", deadline=0)

    bench.add(Row("maps", "a batch", 1, lambda: pytest.fail("too late")))

    assert cells(bench)[2] == ["time is up"]


def test_a_batch_that_is_too_large_does_not_end_the_others():
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory.")

    bench = Bench(QUICK, "cpu", deadline=float("inf"))

    bench.add(Row("maps", "a batch", 1, too_large))
    bench.add(Row("maps", "another", 1, lambda: None, lambda: None))

    assert cells(bench)[2][0] == "out of memory"
    assert float(cells(bench)[2][1]) > 0
