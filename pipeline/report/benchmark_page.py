"""A saliency benchmark as CSV, Markdown, plot and self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.report.plots import ACCENT, label_points, logarithmic, new_figure, plain_look, png
from pipeline.report.rendering import (
    Pictures,
    columns_of,
    csv_table,
    markdown,
    markdown_table,
    render_html,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = "benchmark.html"
_MIB = 2**20


@dataclass(frozen=True)
class Metric:
    """A column; ``sign`` is 1 if higher is better and -1 if lower is better."""

    key: str
    title: str
    sign: int
    percent: bool = True


METRICS = (
    Metric("pointing_game", "pointing game, %", 1),
    Metric("energy_pointing_game", "energy inside, %", 1),
    Metric("iou", "IoU at {threshold:g}, %", 1),
    Metric("oracle", "IoU, oracle threshold, %", 1),
    Metric("insertion", "insertion, %", 1),
    Metric("deletion", "deletion, %", -1),
    Metric("milliseconds", "ms per image", -1, percent=False),
    Metric("forwards", "in forward passes", -1, percent=False),
    Metric("memory", "memory, MiB", -1, percent=False),
)


@dataclass(frozen=True)
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

    def detail(self, key: str) -> str:
        """The standard error of a mean, or the threshold of the oracle; empty without one."""
        if key == "oracle":
            oracle = self.summary.get("oracle")
            return f"at {oracle['threshold']:g}" if oracle else ""
        error = (self.summary.get("scores", {}).get(key) or {}).get("error")
        return f"± {100 * error:.1f}" if error is not None else ""

    def by_class(self, key: str) -> Mapping[str, float]:
        """The mean of a metric for each class."""
        return dict((self.summary.get("scores", {}).get(key) or {}).get("classes", {}))


@dataclass(frozen=True)
class Page:
    """The content of the page."""

    title: str
    folder: str
    created: str
    results: Sequence[Result]
    notes: Mapping[str, str]
    threshold: float
    plot: str | None
    rows: Sequence[Pictures]

    @property
    def columns(self) -> list[str]:
        """Captions of the pictures."""
        return columns_of(self.rows)

    @property
    def metrics(self) -> list[Metric]:
        """The columns with at least one value."""
        return [m for m in METRICS if any(r.value(m.key) is not None for r in self.results)]

    def title_of(self, metric: Metric) -> str:
        """The title of a column."""
        return metric.title.format(threshold=self.threshold)

    def best(self, metric: Metric) -> float | None:
        """The best value of a column among the methods, without the reference."""
        values = [r.value(metric.key) for r in self.results if not r.reference]
        known = [value for value in values if value is not None]
        return max(known, key=lambda v: metric.sign * v) if known else None

    def width(self, metric: Metric, value: float | None) -> float:
        """Length of a bar in percent of 1 (for shares) or of the column's largest value."""
        numbers = [r.value(metric.key) for r in self.results]
        largest = 1.0 if metric.percent else max((v for v in numbers if v is not None), default=1.0)
        return 100 * (value or 0.0) / (largest or 1.0)

    @property
    def classes(self) -> list[str]:
        """Classes that were scored."""
        return sorted({name for r in self.results for m in METRICS for name in r.by_class(m.key)})

    @property
    def pairs(self) -> int:
        """Number of pairs of an image and a class that were scored."""
        return max((int(r.summary.get("pairs", 0)) for r in self.results), default=0)

    @property
    def forward(self) -> Result | None:
        """A method whose summary contains the cost of the plain forward pass."""
        return next((r for r in self.results if r.summary.get("forward_seconds")), None)


def ordered(results: Sequence[Result]) -> list[Result]:
    """Results by pointing game, best first; then refusals, then the reference.

    Ties, and results without a pointing game, are ordered by energy, then by insertion.
    """

    def place(result: Result) -> tuple[object, ...]:
        keys = ("pointing_game", "energy_pointing_game", "insertion")
        scores = (-(result.value(key) or 0.0) for key in keys)
        return (2 * result.reference + bool(result.note), *scores, result.name)

    return sorted(results, key=place)


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    return render_html(TEMPLATE, page, {"shown": shown})


def shown(value: float | None, metric: Metric) -> str:
    """A value as text, for the table.

    Example:
        >>> shown(0.5, METRICS[0]), shown(None, METRICS[0]), shown(3.14159, METRICS[-1])
        ('50.0', '-', '3.14')
    """
    if value is None:
        return "-"
    if metric.percent:
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def as_markdown(page: Page) -> str:
    """The table in Markdown, followed by notes on how it was made."""
    titles = ["method", *(page.title_of(metric) for metric in page.metrics)]
    rows = [
        [result.name, *(shown(result.value(metric.key), metric) for metric in page.metrics)]
        for result in page.results
    ]
    notes = {result.name: result.note for result in page.results if result.note}
    notes |= {"pairs of an image and a class": str(page.pairs), **page.notes}
    lines = [f"- {markdown(f'{name}: {note}')}" for name, note in notes.items()]
    title = f"# {markdown(page.title)}"
    return "\n".join([title, "", *markdown_table(titles, rows), "", *lines, ""])


def as_csv(results: Sequence[Result]) -> str:
    """All values at full precision, one row per method, shares in [0, 1]."""
    return csv_table([_numbers(result) for result in results])


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


def summary_lines(page: Page) -> list[tuple[str, str]]:
    """One line per method, for the terminal."""
    lines = []
    for result in page.results:
        numbers = (
            f"{page.title_of(metric).removesuffix(', %')} {shown(result.value(metric.key), metric)}"
            for metric in page.metrics
        )
        lines.append((result.name, result.note or ", ".join(numbers)))
    return lines


def plot(results: Sequence[Result]) -> bytes | None:
    """Quality against time as a PNG file; None if fewer than two methods have both.

    There is a panel for the pointing game and one for insertion minus deletion, if measured. The
    reference is a dashed line.
    """
    panels = {
        "pointing game, %": _pointing,
        "insertion minus deletion, % points": _faithfulness,
    }
    panels = {title: q for title, q in panels.items() if len(_points(results, q)) > 1}
    if not panels:
        return None
    figure = new_figure(6.4 * len(panels), 4.6)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, quality) in zip(grid, panels.items(), strict=True):
        levels = (quality(result) for result in results if result.reference)
        reference = next((level for level in levels if level is not None), None)
        _scatter(axes, title, _points(results, quality), reference)
    return png(figure)


def _pointing(result: Result) -> float | None:
    value = result.value("pointing_game")
    return None if value is None else 100 * value


def _faithfulness(result: Result) -> float | None:
    up, down = result.value("insertion"), result.value("deletion")
    return None if up is None or down is None else 100 * (up - down)


def _points(
    results: Sequence[Result], quality: Callable[[Result], float | None]
) -> list[tuple[float, float, str]]:
    """(milliseconds, quality, name) of the methods with both values, best first."""
    points = []
    for result in results:
        time, value = result.value("milliseconds"), quality(result)
        if time and value is not None and not result.reference:
            points.append((time, value, result.name))
    return sorted(points, key=lambda point: -point[1])


def _scatter(
    axes: Axes, title: str, points: Sequence[tuple[float, float, str]], reference: float | None
) -> None:
    """Draw points, and their names in a column at the right."""
    times, values, _ = zip(*points, strict=True)
    axes.scatter(times, values, s=34, color=ACCENT, zorder=3)
    axes.margins(y=0.12)
    logarithmic(axes)
    plain_look(axes)
    axes.set_xlabel("ms per image, all its classes (log)")
    axes.set_ylabel(title)
    if reference is not None:
        axes.axhline(reference, color="0.5", linestyle="--", linewidth=1)
        axes.annotate(
            "centre of the image", (0.01, reference), xycoords=("axes fraction", "data"),
            va="bottom", fontsize=8, color="0.4",
        )  # fmt: skip
    label_points(axes, points)


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
