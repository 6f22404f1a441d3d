"""A saliency benchmark as blocks of a page, and as rows of a CSV file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from pipeline.report.page import Block, Fold, Text
from pipeline.report.tables import Cell, Column, Content, Kind, Table, number_text

_MIB = 2**20


@dataclass(frozen=True)
class Metric:
    """A column; ``sign`` is 1 if higher is better and -1 if lower is better."""

    key: str
    title: str
    sign: int
    percent: bool = True

    def column(self, threshold: float) -> Column:
        """The column of a table; ``threshold`` is part of a title."""
        kind: Kind = "share" if self.percent else "number"
        note = "higher is better" if self.sign > 0 else "lower is better"
        return Column(self.title.format(threshold=threshold), kind, note, better=self.sign)


_RANK = Column("mean rank", "number", "over the metrics; lower is better", better=-1)
_NO_RESULT = ("oracle", "milliseconds", "forwards", "memory")

METRICS = (
    Metric("pointing_game", "pointing game", 1),
    Metric("energy_pointing_game", "energy inside", 1),
    Metric("iou", "IoU at {threshold:g}", 1),
    Metric("oracle", "IoU, oracle threshold", 1),
    Metric("grid_pointing_game", "grid pointing game", 1),
    Metric("insertion", "insertion", 1),
    Metric("deletion", "deletion", -1),
    Metric("max_sensitivity", "max-sensitivity", -1, percent=False),
    Metric("complexity_rise", "rise in entropy", 1, percent=False),
    Metric("milliseconds", "ms per image", -1, percent=False),
    Metric("forwards", "in forward passes", -1, percent=False),
    Metric("memory", "memory, MiB", -1, percent=False),
)


_ABOUT = (
    "Pointing game: share of maps whose maximum lies on the object or less than 15 px from it. "
    "Energy: share of the positive saliency on the object. IoU: of the object and the pixels above "
    "a share of the map's maximum; for the oracle, the best share of each method was chosen with "
    "the ground truth, so it is not a result. Insertion and deletion: mean probability of the "
    "class while the most salient pixels are inserted into a blurred image, or removed. Grid "
    "pointing game: share of the positive saliency in the right one of four images side by side. "
    "Max-sensitivity: largest relative change of a map under small noise. Rise in entropy: of the "
    "map when the network forgets what it learned. Mean rank: among the methods, over all these "
    "metrics but the oracle, with its standard deviation; a large one means that metrics disagree."
)


@dataclass(frozen=True, eq=False)
class Result:
    """A method and the summary of its scores; ``reference`` marks the centred spot."""

    name: str
    summary: Mapping[str, Any]
    reference: bool = False

    @property
    def note(self) -> str:
        """Why there are no scores; empty if there are."""
        if self.summary.get("unfinished"):
            return "not finished: some images failed"
        refused = self.summary.get("refused")
        return f"refused: {refused}" if refused else ""

    @property
    def options(self) -> str:
        """The class of the method and its options, in one line."""
        return _described(self.summary.get("method") or {})

    def value(self, key: str) -> float | None:
        """The value of a column in its unit; None if it was not measured."""
        summary = self.summary
        if key == "milliseconds":
            return None if summary.get("seconds") is None else 1000 * summary["seconds"]
        if key == "forwards":
            return summary.get("forwards")
        if key == "memory":
            return None if summary.get("bytes") is None else summary["bytes"] / _MIB
        if key == "oracle":
            return (summary.get("oracle") or {}).get("iou")
        return (summary.get("scores", {}).get(key) or {}).get("mean")

    def detail(self, metric: Metric) -> str:
        """The standard error of a mean, or the threshold of the oracle; empty without one."""
        if metric.key == "oracle":
            oracle = self.summary.get("oracle")
            return f"at {oracle['threshold']:g}" if oracle else ""
        error = (self.summary.get("scores", {}).get(metric.key) or {}).get("error")
        if error is None:
            return ""
        return f"± {100 * error:.1f}" if metric.percent else f"± {error:.2g}"

    def class_mean(self, key: str) -> float | None:
        """The mean over classes of a metric."""
        return (self.summary.get("scores", {}).get(key) or {}).get("class_mean")

    def by_class(self, key: str) -> Mapping[str, float]:
        """The mean of a metric for each class."""
        return dict((self.summary.get("scores", {}).get(key) or {}).get("classes", {}))


def ordered(results: Sequence[Result]) -> list[Result]:
    """Results by pointing game, best first; then refusals, then the reference.

    Ties, and results without a pointing game, are ordered by energy, then by insertion.
    """

    def place(result: Result) -> tuple[object, ...]:
        keys = ("pointing_game", "energy_pointing_game", "insertion")
        scores = (-(result.value(key) or 0.0) for key in keys)
        return (2 * result.reference + bool(result.note), *scores, result.name)

    return sorted(results, key=place)


def blocks(results: Sequence[Result], threshold: float) -> list[Block]:
    """The table of scores, and what the columns mean.

    Args:
        results: The methods, in any order.
        threshold: Share of the maximum of a map at which the IoU was taken.
    """
    metrics, pairs = measured(results), max((r.summary.get("pairs", 0) for r in results), default=0)
    said = (
        f"{pairs} pairs of an image and a class that it shows. Small numbers are standard errors "
        "over pairs; all methods were scored on the same pairs, so differences between methods are "
        "more certain than the errors suggest. The last row is a reference: the same spot at the "
        "centre of every image."
    )
    columns = [Column("method", "text"), *(metric.column(threshold) for metric in metrics)]
    rows = {result: _row(result, metrics) for result in ordered(results)}
    if ranks := mean_ranks(results):
        columns.insert(1, _RANK)
        for result, row in rows.items():
            row.insert(1, _rank_cell(ranks.get(result.name)))
    own = [row for result, row in rows.items() if not result.reference]
    reference = [row for result, row in rows.items() if result.reference]
    about = f"{_ABOUT} {_cost(results)}".strip()
    scores = Table("", columns, own, reference, about, sortable=True)
    by_class = [
        Fold(table.title, [table])
        for metric in metrics
        if (table := _by_class(results, metric, threshold))
    ]
    return [Text(said), scores, *by_class]


def measured(results: Sequence[Result]) -> list[Metric]:
    """The columns with at least one value."""
    return [m for m in METRICS if any(result.value(m.key) is not None for result in results)]


def mean_ranks(results: Sequence[Result]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over metrics of a method's rank among the methods, by name.

    Cost, the oracle and the reference are left out; equal scores share the mean of their ranks.
    Nothing can be ranked with fewer than two methods or metrics.
    """
    methods = [result for result in results if not result.reference and not result.note]
    metrics = [metric for metric in measured(methods) if metric.key not in _NO_RESULT]
    if len(methods) < 2 or len(metrics) < 2:
        return {}
    scores = [[-m.sign * _number(r.value(m.key)) for m in metrics] for r in methods]
    ranks = rankdata(scores, axis=0, nan_policy="omit")
    return {
        result.name: (float(np.nanmean(row)), float(np.nanstd(row, ddof=1)))
        for result, row in zip(methods, ranks, strict=True)
        if np.isfinite(row).sum() > 1
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _rank_cell(rank: tuple[float, float] | None) -> Content:
    return None if rank is None else Cell(rank[0], lines=[f"± {rank[1]:.1f}"])


def _row(result: Result, metrics: Sequence[Metric]) -> list[Content]:
    tone, lines = ("bad", [result.note]) if result.note else ("", [result.options])
    cells = [_cell(result, metric) for metric in metrics]
    return [Cell(result.name, lines=list(filter(None, lines)), tone=tone), *cells]


def _cell(result: Result, metric: Metric) -> Cell:
    return Cell(result.value(metric.key), lines=list(filter(None, [result.detail(metric)])))


def _cost(results: Sequence[Result]) -> str:
    """What a plain forward pass costs, in words."""
    found = next((r.summary for r in results if r.summary.get("forward_seconds")), None)
    if found is None:
        return ""
    text = "Time: median of one call for all classes of an image; a plain forward pass takes "
    text += f"{1000 * found['forward_seconds']:.3g} ms."
    if found.get("forward_bytes") is not None:
        text += (
            " Memory: peak of the tensors of one call without the network itself, the largest of "
            f"three images; a plain forward pass needs {found['forward_bytes'] / _MIB:.3g} MiB."
        )
    return text


def _by_class(results: Sequence[Result], metric: Metric, threshold: float) -> Table | None:
    """The means of single classes; None if there are none."""
    found = {r.name: r.by_class(metric.key) for r in ordered(results) if r.by_class(metric.key)}
    names = sorted({name for scores in found.values() for name in scores})
    means = {r.name: r.class_mean(metric.key) for r in results}
    rows: list[list[Content]] = [
        [method, means[method], *(scores.get(name) for name in names)]
        for method, scores in found.items()
    ]
    columns = [Column("method", "text"), *(Column(n) for n in ("mean of classes", *names))]
    title = f"By class: {metric.column(threshold).title}"
    return Table(title, columns, rows, sortable=True) if rows else None


def csv_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """All values at full precision, a row for each method, shares in [0, 1]."""
    ranks = mean_ranks(results)
    return [_numbers(result) | _rank_numbers(ranks.get(result.name)) for result in results]


def _rank_numbers(rank: tuple[float, float] | None) -> dict[str, float]:
    return {} if rank is None else {"mean_rank": rank[0], "mean_rank/deviation": rank[1]}


def _numbers(result: Result) -> dict[str, Any]:
    summary = result.summary
    row: dict[str, Any] = {"method": result.name, "options": result.options, "note": result.note}
    measured = ("seconds", "forward_seconds", "forwards", "bytes", "forward_bytes")
    row |= {key: summary.get(key) for key in ("images", "pairs", *measured)}
    oracle = summary.get("oracle") or {}
    row |= {"iou_oracle": oracle.get("iou"), "iou_oracle_threshold": oracle.get("threshold")}
    for key, score in summary.get("scores", {}).items():
        row |= {key: score["mean"], f"{key}/standard_error": score["error"]}
        row |= {f"{key}/pairs": score["pairs"], f"{key}/class_mean": score["class_mean"]}
        row |= {f"{key}/{name}": value for name, value in score["classes"].items()}
    return row


def summary_lines(results: Sequence[Result], threshold: float) -> Iterator[tuple[str, str]]:
    """One line for each method, for the terminal."""
    columns = {metric: metric.column(threshold) for metric in measured(results)}
    for result in ordered(results):
        numbers = (
            f"{column.title} {number_text(result.value(metric.key), column.kind) or '-'}"
            for metric, column in columns.items()
        )
        yield result.name, result.note or ", ".join(numbers)


def _described(settings: Mapping[str, Any]) -> str:
    """The class named by ``_target_``, and its options.

    Example:
        >>> _described({"_target_": "tsgb.TSGB", "kappa": 0.5, "layer": None})
        'TSGB(kappa=0.5)'
    """
    options = []
    for key, value in settings.items():
        if key.startswith("_") or value is None:
            continue
        text = _described(value) if isinstance(value, Mapping) else str(value)
        options.append(f"{key}={text}")
    name = str(settings.get("_target_", "")).rpartition(".")[2]
    return f"{name}({', '.join(options)})" if options else name
