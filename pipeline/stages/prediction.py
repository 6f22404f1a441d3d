"""Lightning ``predict`` over a list of images: one result, one file, and no image lost silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from threading import BoundedSemaphore
from typing import Any, Self, TypeVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from pipeline.base.arrays import Floats
from pipeline.base.config import TrainerConfig
from pipeline.base.errors import (
    DataError,
    PipelineError,
    StageIncompleteError,
    at_most,
    failure_of_image,
)
from pipeline.base.ranks import gathered
from pipeline.data.catalogue import Item
from pipeline.data.datasets import TargetedImages, loading
from pipeline.networks.device import exact_products, on_gpu, workers_of
from pipeline.stages.job import Job
from pipeline.stages.trainer import make_trainer
from pipeline.tasks.predictor import Batch

Failures = dict[str, str]  # id -> what went wrong
Write = Callable[[Item, Floats], None]
_WAITING = 2  # results that wait for a thread
T = TypeVar("T")
R = TypeVar("R")


def predict(
    job: Job,
    make_task: Callable[[], pl.LightningModule],
    items: Sequence[Item],
    write: Write,
) -> Failures:
    """Predict every image and hand each result to ``write``; return the images that failed.

    Gradients are allowed, since saliency needs them. On a GPU nothing is rounded to TensorFloat-32,
    and results are written by other threads, for the GPU not to wait.

    Args:
        job: With the settings.
        make_task: Makes the task, unless no process has any image.
        items: The images of this process; each process has its own.
        write: Is given an image and its result; images come in any order.
    """
    if not any(gathered(len(items))):
        return {}
    settings, failures = job.settings.trainer, Failures()
    options = loading(workers_of(settings), pinned=on_gpu(settings))
    loader = DataLoader(TargetedImages(items), batch_size=1, **options)
    with exact_products(), _beside(settings, partial(_finish, write, failures)) as hand_over:
        trainer = make_trainer(job, callbacks=[_Results(items, hand_over)], inference_mode=False)
        trainer.predict(make_task(), loader, return_predictions=False)
    return failures


_Result = tuple[Item, Floats | Exception]


def _finish(write: Write, failures: Failures, result: _Result) -> None:
    """Write one result, or note why there is none."""
    item, found = result
    try:
        if isinstance(found, Exception):
            raise found
        write(item, found)
    except Exception as error:
        reason = failure_of_image(error)
        if reason is None:
            raise
        failures[item.id] = f"{item.image}: {reason}"


@contextmanager
def _beside(
    settings: TrainerConfig, work: Callable[[_Result], None]
) -> Iterator[Callable[[_Result], None]]:
    """Where results go: to threads beside a GPU; a network on a CPU needs the cores itself."""
    if not on_gpu(settings):
        yield work
        return
    with BackgroundPool(work, max(workers_of(settings), 1)) as pool:
        yield pool.submit


class _Results(Callback):
    """Hands over each result as an array, or the reason why an image has none."""

    def __init__(self, items: Sequence[Item], hand_over: Callable[[_Result], None]) -> None:
        self.items = {item.id: item for item in items}
        self.hand_over = hand_over

    def on_predict_batch_end(
        self,
        _trainer: pl.Trainer,
        _task: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        _index: int,
        _loader: int = 0,
    ) -> None:
        """Hand over the result of one image."""
        found = outputs if isinstance(outputs, Exception) else outputs.cpu().numpy()
        self.hand_over((self.items[batch[2][0]], found))


def in_parallel(
    work: Callable[[T], R], inputs: Iterable[T], workers: int
) -> Iterator[tuple[T, R | PipelineError]]:
    """Results in the order of the inputs, made by threads; few inputs are in flight at a time.

    An error about one input is returned in place of its result, so that one image does not stop
    the others. A full disk does.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        source = iter(inputs)
        running: list[tuple[T, Future[R]]] = []
        for value in source:
            running.append((value, pool.submit(work, value)))
            if len(running) >= 2 * workers:
                break
        while running:
            value, future = running.pop(0)
            running += [(new, pool.submit(work, new)) for new in islice(source, 1)]
            try:
                yield value, future.result()
            except Exception as error:
                reason = failure_of_image(error)
                if reason is None:
                    pool.shutdown(cancel_futures=True)
                    raise
                yield value, error if isinstance(error, PipelineError) else DataError(reason)


class BackgroundPool:
    """Threads that work on each input while the caller makes the next ones.

    At most two inputs wait, since each may be large; then the caller waits. An error stops the
    caller at its next input, or is raised at the end of the block.

    Example:
        >>> seen = set()
        >>> with BackgroundPool(seen.add, workers=2) as pool:
        ...     for number in range(5):
        ...         pool.submit(number)
        >>> sorted(seen)
        [0, 1, 2, 3, 4]
    """

    def __init__(self, work: Callable[[T], object], workers: int) -> None:
        self._work: Callable[[Any], object] = work
        self._pool = ThreadPoolExecutor(max_workers=workers)
        self._places = BoundedSemaphore(workers + _WAITING)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def submit(self, value: object) -> None:
        """Hand over an input; wait until there is room for it."""
        self._raise_error()
        self._places.acquire()
        self._pool.submit(self._try, value)

    def _try(self, value: object) -> None:
        try:
            self._work(value)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        finally:
            self._places.release()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self._raise_error()


def raise_if_any(failures: Failures, total: int, what: str) -> None:
    """Report the failed images of all processes by id, after all others were done.

    Args:
        failures: Those of this process; all processes have to call this.
        total: Number of images of all processes.
        what: The work, for the message.

    Raises:
        StageIncompleteError: There are failures.
    """
    failures = dict(entry for one in gathered(failures) for entry in one.items())
    if failures:
        lines = [f"{name}: {reason}" for name, reason in failures.items()]
        raise StageIncompleteError(
            f"{what}: {len(failures)} of {total} images failed; the other {total - len(failures)} "
            "are done and kept. Once the causes are removed the same command makes the rest.\n"
            f"{at_most(lines)}"
        )
