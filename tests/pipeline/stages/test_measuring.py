"""Seconds and bytes of calls whose cost is known."""

import time

import pytest
import torch

from pipeline.stages.measuring import peak_bytes, timed

CPU = torch.device("cpu")


def test_timed_gives_the_result_and_how_long_it_took():
    result, seconds = timed(lambda: time.sleep(0.05) or "done", CPU)

    assert result == "done"
    assert 0.05 <= seconds < 5


def test_what_exists_already_does_not_count():
    there = torch.zeros(1_000_000)

    assert peak_bytes(lambda: there.add_(1).view(1000, 1000), CPU) < 1000


@pytest.mark.parametrize("count", [1000, 250_000])
def test_tensors_at_the_same_time_add_up(count):
    found = peak_bytes(lambda: [torch.zeros(count) for _ in range(3)], CPU)

    assert found == 3 * 4 * count


def test_tensors_after_each_other_do_not():
    def one_by_one():
        for _ in range(3):
            torch.zeros(250_000)

    assert peak_bytes(one_by_one, CPU) == 1_000_000


def test_nothing_costs_nothing_and_says_nothing(capfd):
    assert peak_bytes(lambda: None, CPU) == 0
    assert capfd.readouterr() == ("", "")


def test_an_error_inside_comes_out_and_messages_are_heard_again(capfd):
    import os

    def fail():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        peak_bytes(fail, CPU)
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
