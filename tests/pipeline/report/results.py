"""Results of runs as plain values."""

from pipeline.report import compare_page as page
from pipeline.report import comparison
from pipeline.report.comparison import Part, Result, flattened

SCORES = {"classifier": 0.9, "seed": 0.5, "oracle": 0.6, "threshold": 0.3, "refined": 0.55,
          "masks": 0.6, "coverage": 0.8}  # fmt: skip
SECONDS = {"classifier": 60.0, "saliency": 20.0, "pseudo_labels": 10.0}


def part(made, values, seconds, **groups):
    settings = {}
    for name, node in groups.items():
        settings |= flattened(name, node)
    return Part(made, settings, values, seconds)


def result(
    method="a.TSGB", random_seed=0, segmenter=None, made=None, refine=None, classes=None, **scores
):
    """A run; ``segmenter`` is its mIoU, or a pair of that and of the number of epochs."""
    saliency = {"method": {"_target_": method, "kappa": 0.5}, "flip": True}
    made = made or f"{method} {refine} {random_seed}"
    masks = part(
        made, {**SCORES, **scores}, SECONDS, saliency=saliency,
        refine=refine or {"_target_": "a.None"},
    )  # fmt: skip
    learned = None
    if segmenter is not None:
        miou, epochs = segmenter if isinstance(segmenter, tuple) else (segmenter, 2)
        values, seconds = {"segmenter|val": miou}, {"segmentation": 100.0, "evaluate": 5.0}
        learned = part(f"{made} {epochs}", values, seconds, segmenter={"epochs": epochs})
    return Result(f"masks of {made}", random_seed, 4, masks, learned, classes or {})


def section(results, by=None, **more):
    groups = comparison.grouped(results)
    measure = comparison.measure_to_sort_by(groups, by)
    return page.Section("data", comparison.ordered(groups, measure), measure, **more)


def filled(*sections, ends=()):
    return page.Page("t", "f", "now", sections, ends, {"code": "abc"})


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
