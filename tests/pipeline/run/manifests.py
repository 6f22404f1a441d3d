"""Stages' folders written by hand, as stages leave them."""

from pipeline.base.files import fingerprint
from pipeline.run.folders import StageFolder

SCORE = {"mIoU": 0.5, "IoU": {"background": 0.9, "cat": 0.1}, "coverage": 0.8}
MASKS = {
    "images": 4, "scored_by": {"truth": "t1", "code": "c"},
    "scores": {
        "seeds": SCORE, "refined": SCORE, "masks": SCORE, "split": "train", "images": 4,
        "oracle": {
            "threshold": 0.3, "mIoU": 0.55, "thresholds": [0.3],
            "IoU": {"background": [0.9], "cat": [0.2]},
        },
    },
}  # fmt: skip
NUMERICS = {"precision": "32-true", "tf32": False, "processes": 1}
MADE_BY = {"git": "abc", "python": "3", "platform": "here", "packages": {}}


def make(
    root, kind, parents=(), summary=None, *, done=True, random_seed=0, code="c", data="d", **chosen
):
    """A stage's folder as a stage leaves it, named after its choices."""
    parts = {
        "settings": chosen, "from": [parent.path.name for parent in parents], "data": data,
        "random_seed": random_seed, "upstream": [parent.fingerprint for parent in parents],
        "code": [code],
    }  # fmt: skip
    choice = {key: parts[key] for key in ("settings", "from", "data", "random_seed")}
    folder = StageFolder(root / kind / f"x-{fingerprint([kind, choice])[:6]}", parts, MADE_BY)
    folder.begin()
    (folder.path / "content").write_text(kind)
    if done:
        folder.finish(summary or {})
    return folder


def make_masks(
    root, random_seed=0, method="tsgb.TSGB", refine="a.CRF", summary=MASKS, split="train", **more
):
    """Classifier, saliency and pseudo-labels; equal ones are made once."""
    trained = make(
        root, "classifier", (), {"mAP": 0.9, "AP": {"cat": 0.9}}, random_seed=random_seed,
        classifier={"backbone": "net", "epochs": 3}, numerics=NUMERICS, **more,
    )  # fmt: skip
    method = {"method": {"_target_": method, "kappa": 0.5}, "flip": True, "split": split}
    maps = make(
        root, "saliency", [trained], {"images": 4}, random_seed=random_seed, saliency=method, **more
    )
    masks = make(
        root, "pseudo_labels", [maps], summary, random_seed=random_seed, seed={"power": 0.5},
        refine={"_target_": refine}, **more,
    )  # fmt: skip
    return trained, maps, masks


def make_segmenter(
    root, upstream, labels="pseudo", random_seed=0, epochs=2, learned_from=None, **more
):
    learned = None if labels == "pseudo" else "v1"
    return make(
        root, "segmentation", upstream, {"labels": labels}, random_seed=random_seed,
        segmenter={"labels": labels, "epochs": epochs}, numerics=NUMERICS, learned=learned,
        learned_from=learned_from.path.name if learned_from else None, **more,
    )  # fmt: skip


def make_score(root, segmenter, miou, scales="1", random_seed=0, truth="v1", refine=None):
    scores = {**SCORE, "mIoU": miou, "protocol": f"val, scale {scales}"}
    summary = {"scores": scores, "scored_by": {"truth": truth, "code": "c"}}
    return make(
        root, "evaluate", [segmenter], summary, random_seed=random_seed,
        evaluate={"scales": scales}, refine=refine,
    )  # fmt: skip
