"""Work in threads beside the main one: bounded, complete, and never hanging."""

import threading

import pytest
import torch

from pipeline.base.errors import DataError, StorageError
from pipeline.stages.failures import BackgroundPool, in_parallel
from pipeline.stages.prediction import predict
from pipeline.tasks.predictor import ImagePredictor
from tests.pipeline.runs import job


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_that_is_handed_over_is_done_when_the_block_ends(workers):
    done = []

    with BackgroundPool(done.append, workers) as pool:
        for number in range(40):
            pool.submit(number)

    assert sorted(done) == list(range(40))


def test_the_caller_waits_while_too_much_is_under_way():
    gate = threading.Event()
    handed_over = []

    def hand_over(pool):
        for number in range(8):
            pool.submit(number)
            handed_over.append(number)

    with BackgroundPool(lambda _: gate.wait(10), workers=1) as pool:
        caller = threading.Thread(target=hand_over, args=(pool,))
        caller.start()
        caller.join(timeout=0.3)
        assert len(handed_over) == 3  # one that runs and two that wait
        gate.set()
        caller.join()


def test_an_image_that_fails_is_left_for_the_pass_that_reports_it():
    done = []

    def work(number):
        if number == 1:
            raise DataError("image 1 is broken")
        done.append(number)

    with BackgroundPool(work, workers=2) as pool:
        for number in range(4):
            pool.submit(number)

    assert sorted(done) == [0, 2, 3]


def test_a_full_disk_stops_the_caller():
    def work(_):
        raise StorageError("the disk is full")

    def hand_over_all():
        with BackgroundPool(work, workers=1) as pool:
            for number in range(1000):
                pool.submit(number)
                count.append(number)

    count = []
    with pytest.raises(StorageError, match="the disk is full"):
        hand_over_all()
    assert len(count) < 1000


def test_an_error_of_the_last_input_is_not_lost():
    def work(_):
        raise RuntimeError("a mistake in the program")

    with pytest.raises(RuntimeError, match="a mistake"), BackgroundPool(work, workers=1) as pool:
        pool.submit(0)


def test_an_error_of_the_caller_is_raised_and_what_waits_is_dropped():
    done = []
    gate = threading.Event()

    def work(number):
        gate.wait(10)
        done.append(number)

    def hand_over_and_fail():
        with BackgroundPool(work, workers=1) as pool:
            for number in range(3):
                pool.submit(number)
            threading.Timer(0.1, gate.set).start()
            raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        hand_over_and_fail()
    assert done == [0]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_inputs(workers):
    def work(number):
        if number == 3:
            raise DataError("image 3 is broken")
        return number**2

    results = list(in_parallel(work, range(7), workers))

    assert [value for value, _ in results] == list(range(7))
    assert isinstance(results[3][1], DataError)
    assert [square for value, square in results if value != 3] == [0, 1, 4, 16, 25, 36]


@pytest.fixture
def tensor_float_32():
    """Allowed in all float32 products, as a person may have set it."""
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = False


def test_a_gpu_does_not_round_the_products_of_predictions(make_run, tensor_float_32):
    seen = []

    class Task(ImagePredictor):
        def predict_image(self, image, targets):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return image

    run = make_run()
    predict(job(run, "saliency"), Task, run.data.val.items[:1], lambda *_: None)

    assert seen == [(False, False)]
    assert torch.backends.cuda.matmul.allow_tf32
