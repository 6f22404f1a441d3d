"""Failures of single images: each is reported by id, and the work on the others goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import BoundedSemaphore
from typing import Any, Self, TypeVar

from pipeline.base.errors import (
    DataError,
    PipelineError,
    StageIncompleteError,
    at_most,
    failure_of_image,
)
from pipeline.base.ranks import gathered

Failures = dict[str, str]
"""What went wrong, by the id of the image."""

_WAITING = 2  # results that wait for a thread
T = TypeVar("T")
R = TypeVar("R")


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
