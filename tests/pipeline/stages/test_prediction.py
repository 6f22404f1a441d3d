"""Work in threads beside the main one: bounded, complete, and never hanging."""

import threading

import pytest
import torch

from pipeline.base.errors import DataError, StorageError
from pipeline.data.pixels import read_pixels
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


@pytest.mark.parametrize(("workers", "under_way"), [(1, 3), (4, 6)])
def test_the_caller_waits_while_too_much_is_under_way(workers, under_way):
    gate = threading.Event()
    handed_over = []

    def hand_over(pool):
        for number in range(8):
            pool.submit(number)
            handed_over.append(number)

    with BackgroundPool(lambda _: gate.wait(10), workers) as pool:
        caller = threading.Thread(target=hand_over, args=(pool,))
        caller.start()
        caller.join(timeout=0.3)
        assert len(handed_over) == under_way  # those that run and two that wait
        gate.set()
        caller.join()


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


def test_an_image_that_a_gpu_has_no_memory_for_is_named_and_the_others_are_done(make_run):
    run, written = make_run(), []
    items = run.data.val.items[:3]

    class Task(ImagePredictor):
        def predict_step(self, batch, index):
            self.large = batch[2][0] == items[1].id
            return super().predict_step(batch, index)

        def predict_image(self, image, targets):
            if self.large:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return image

    failures = predict(job(run, "saliency"), Task, items, lambda item, _: written.append(item.id))

    assert written == [items[0].id, items[2].id]
    assert list(failures) == [items[1].id]
    assert "not enough memory for this image" in failures[items[1].id]


class Sums(ImagePredictor):
    """The result of an image is the sum of its pixels."""

    def predict_image(self, image, targets):
        return image.sum()


def predicted(run, write):
    return predict(job(run, "saliency"), Sums, run.data.train.items, write)


def test_beside_a_gpu_other_threads_write_the_same(make_run, beside_a_gpu):
    run, written = make_run(), {}

    def write(item, result):
        written[item.id] = (int(result), threading.current_thread() is threading.main_thread())

    failures = predicted(run, write)

    expected = {item.id: (int(read_pixels(item).sum()), False) for item in run.data.train.items}
    assert (written, failures) == (expected, {})


def test_beside_a_gpu_images_that_cannot_be_written_are_named(make_run, beside_a_gpu):
    run, written = make_run(), []

    def write(item, _):
        if item.id == run.data.train.items[3].id:
            raise DataError("cannot be refined")
        written.append(item.id)

    failures = predicted(run, write)

    bad = run.data.train.items[3]
    assert failures == {bad.id: f"{bad.image}: cannot be refined"}
    assert len(written) == len(run.data.train.items) - 1


def test_beside_a_gpu_a_full_disk_ends_the_stage(make_run, beside_a_gpu):
    def write(*_):
        raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        predicted(make_run(), write)


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
