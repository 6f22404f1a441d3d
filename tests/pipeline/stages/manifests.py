"""Stages' folders written by hand, as stages leave them."""

from pipeline.artifacts import StageFolder, fingerprint

SCORE = {"mIoU": 0.5, "IoU": {"background": 0.9, "cat": 0.1}, "coverage": 0.8}
MASKS = {
    "images": 4, "truth": "t1",
    "scores": {
        "seeds": SCORE, "refined": SCORE, "masks": SCORE, "split": "train", "images": 4,
        "oracle": {"threshold": 0.3, "mIoU": 0.55},
    },
}  # fmt: skip
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
        classifier={"backbone": "net", "epochs": 3}, precision="auto", **more,
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


def make_network(root, upstream, labels="pseudo", random_seed=0, epochs=2, rounds=1, **more):
    segmenter = {"labels": labels, "epochs": epochs, "rounds": rounds}
    truth = "v1" if labels == "ground_truth" else None
    return make(
        root, "segmentation", upstream, {"labels": labels}, random_seed=random_seed,
        segmenter=segmenter, precision="auto", ground_truth=truth, **more,
    )  # fmt: skip


def make_score(root, network, miou, scales="1", random_seed=0, truth="v1", refine=None):
    scores = {**SCORE, "mIoU": miou, "protocol": f"val, scale {scales}"}
    return make(
        root, "evaluate", [network], {"scores": scores}, random_seed=random_seed,
        evaluate={"scales": scales}, ground_truth=truth, refine=refine,
    )  # fmt: skip
