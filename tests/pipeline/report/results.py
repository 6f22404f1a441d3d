"""Results of runs as plain values."""

from pipeline.report.choices import flattened
from pipeline.report.compare_page import ComparedData
from pipeline.report.comparison import Comparison, Part, Result, grouped
from pipeline.report.page import Page, Section, as_markdown, render

SCORES = {"classifier": 0.9, "seed": 0.5, "oracle": 0.6, "threshold": 0.3, "refined": 0.55,
          "masks": 0.6, "coverage": 0.8}  # fmt: skip
SECONDS = {"classifier": 60.0, "saliency": 20.0, "pseudo_labels": 10.0}
IMAGES = dict.fromkeys(("seed", "oracle", "refined", "masks"), 4) | {"classifier": 3}


def part(made, values, seconds, images, **groups):
    settings = {}
    for name, node in groups.items():
        settings |= flattened(name, node)
    return Part(made, settings, values, seconds, images, f"folder of {made}")


def result(
    method="a.TSGB", random_seed=0, segmenter=None, made=None, refine=None, classes=None, **scores
):
    """A run; ``segmenter`` is its mIoU, or a pair of that and of the number of epochs."""
    made = made or f"{method} {refine} {random_seed}"
    masks = part(
        made, {**SCORES, **scores}, SECONDS, IMAGES,
        saliency={"_target_": method, "kappa": 0.5}, flip=True,
        refine=refine or {"_target_": "a.None"},
    )  # fmt: skip
    learned = None
    if segmenter is not None:
        miou, epochs = segmenter if isinstance(segmenter, tuple) else (segmenter, 2)
        values, seconds = {"segmenter|val": miou}, {"segmentation": 100.0, "evaluate": 5.0}
        images = {"segmenter|val": 7}
        learned = part(f"{made} {epochs}", values, seconds, images, segmenter={"epochs": epochs})
    return Result(random_seed, 4, masks, learned, classes or {})


def compared(results, by=None):
    return Comparison(grouped(results)).ordered(by)


def section(results, by=None, **more):
    return ComparedData("data", compared(results, by), **more)


def row_of(data, label):
    """The row of a table by its label."""
    return next(k for k in range(len(data.content.groups)) if data.content.label(k) == label)


def labels(content):
    return [content.label(row) for row in range(len(content.groups))]


def page_of(data):
    return Page("t", "f", "now", [Section(data.title, data.blocks)])


def html_of(data):
    return render(page_of(data))


def markdown_of(data):
    return as_markdown(page_of(data))


CRF, PAR = {"_target_": "a.CRF"}, {"_target_": "a.PAR"}


def crossed_runs():
    """Two methods, each as it is (the refined mask is the seed) and with CRF; one with PAR."""
    return [
        *(result(refined=0.5, random_seed=s) for s in (0, 1)),
        *(result(refine=CRF, refined=r, random_seed=s) for s, r in ((0, 0.6), (1, 0.7))),
        result(refine=PAR, refined=0.58),
        result("a.CAM", refined=0.4, seed=0.4),
        result("a.CAM", refine=CRF, refined=0.68, seed=0.4),
    ]
