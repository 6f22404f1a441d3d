"""What lies in a folder, from manifests written by hand."""

import json
import time

import pytest

from pipeline.artifacts import MANIFEST, StageFolder, fingerprint
from pipeline.stages import lineage

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


def make_masks(root, random_seed=0, method="tsgb.TSGB", refine="a.CRF", summary=MASKS, **more):
    """Classifier, saliency and pseudo-labels; equal ones are made once."""
    trained = make(
        root, "classifier", (), {"mAP": 0.9, "AP": {"cat": 0.9}}, random_seed=random_seed,
        classifier={"backbone": "net", "epochs": 3}, precision="auto", **more,
    )  # fmt: skip
    method = {"method": {"_target_": method, "kappa": 0.5}, "flip": True}
    maps = make(
        root, "saliency", [trained], {"images": 4}, random_seed=random_seed, saliency=method, **more
    )
    masks = make(
        root, "pseudo_labels", [maps], summary, random_seed=random_seed, seed={"power": 0.5},
        refine={"_target_": refine}, **more,
    )  # fmt: skip
    return trained, maps, masks


def make_network(root, upstream, labels="pseudo", random_seed=0, epochs=2, **more):
    segmenter = {"labels": labels, "epochs": epochs}
    truth = "v1" if labels == "ground_truth" else None
    return make(
        root, "segmentation", upstream, {"labels": labels}, random_seed=random_seed,
        segmenter=segmenter, precision="auto", ground_truth=truth, **more,
    )  # fmt: skip


def make_score(root, network, miou, scales="1", random_seed=0, truth="v1"):
    scores = {**SCORE, "mIoU": miou, "protocol": f"val, scale {scales}"}
    return make(
        root, "evaluate", [network], {"scores": scores}, random_seed=random_seed,
        evaluate={"scales": scales}, ground_truth=truth,
    )  # fmt: skip


def ways(root):
    return list(lineage.lineages(lineage.stages_in(root)))


def test_masks_are_followed_back_to_their_classifier(tmp_path):
    trained, maps, masks = make_masks(tmp_path)

    (way,) = ways(tmp_path)

    assert [s.path for s in way.masks.ancestors()] == [trained.path, maps.path, masks.path]
    assert way.network is None


def test_each_network_is_a_way_of_its_own_with_its_scores(tmp_path):
    trained, _, masks = make_masks(tmp_path)
    networks = [make_network(tmp_path, [masks, trained], epochs=epochs) for epochs in (2, 3)]
    scored = [make_score(tmp_path, networks[0], 0.5, scales) for scales in ("1", "2")]

    found = {way.network.path: way for way in ways(tmp_path)}

    assert found.keys() == {network.path for network in networks}
    assert {s.path for s in found[networks[0].path].scored} == {s.path for s in scored}
    assert found[networks[1].path].scored == ()


def test_a_twin_has_the_same_recipe_seed_and_classifier(tmp_path):
    trained, _, masks = make_masks(tmp_path)
    network = make_network(tmp_path, [masks, trained])
    twin = make_network(tmp_path, [trained], "ground_truth")
    longer = make_network(tmp_path, [trained], "ground_truth", epochs=9)
    other_seed = make_network(tmp_path, [trained], "ground_truth", random_seed=5)
    from_nothing = make_network(tmp_path, [], "ground_truth")
    for other in (network, twin, longer, other_seed, from_nothing):
        make_score(tmp_path, other, 0.5)

    (way,) = ways(tmp_path)

    assert [score.parents[0].path for score in way.twin_scored] == [twin.path]


def reasons(root):
    return {s.kind: why for s, why in lineage.loose_ends(lineage.stages_in(root))}


def test_what_is_still_at_work_is_named(tmp_path):
    _, maps, _ = make_masks(tmp_path)
    make(tmp_path, "pseudo_labels", [maps], done=False, refine={"_target_": "a.Other"})

    assert len(ways(tmp_path)) == 1
    assert reasons(tmp_path) == {"pseudo_labels": "not finished: killed, or still at work"}


def test_masks_without_scores_of_a_scored_set_are_not_finished(tmp_path):
    make_masks(tmp_path, summary={"images": 4})

    assert ways(tmp_path) == []
    assert reasons(tmp_path)["pseudo_labels"] == "not scored yet: killed on the way"


def test_masks_without_ground_truth_are_finished(tmp_path):
    make_masks(tmp_path, summary={"images": 4, "truth": "", "scores": None})

    assert len(ways(tmp_path)) == 1


def test_lost_files_are_noticed_and_spread_to_what_was_made_from_them(tmp_path):
    _, maps, _ = make_masks(tmp_path)
    (maps.path / "content").unlink()

    assert ways(tmp_path) == []
    found = reasons(tmp_path)
    assert found["saliency"] == "some of its files are gone"
    assert "does not count: some of its files are gone" in found["pseudo_labels"]


def test_masks_of_an_earlier_version_of_their_maps_do_not_count(tmp_path):
    _, maps, _ = make_masks(tmp_path)
    again = StageFolder(maps.path, {**maps.parts, "code": ["new"]}, MADE_BY)
    again.begin()
    again.finish({})

    assert ways(tmp_path) == []
    assert "made again since, by other code" in reasons(tmp_path)["pseudo_labels"]


def test_a_deleted_parent_is_named(tmp_path):
    import shutil

    _, maps, _ = make_masks(tmp_path)
    shutil.rmtree(maps.path)

    assert reasons(tmp_path)["pseudo_labels"] == f"what it was made from ({maps.path.name}) is gone"


def test_a_damaged_manifest_is_named(tmp_path):
    _, _, masks = make_masks(tmp_path)
    (masks.path / MANIFEST).write_text("{")

    assert reasons(tmp_path)["pseudo_labels"] == "its manifest.json cannot be read"


def test_a_classifier_without_masks_and_given_masks_are_named(tmp_path):
    make_masks(tmp_path)
    make(tmp_path, "classifier", (), {"mAP": 0.1}, random_seed=8, classifier={"backbone": "other"})
    make(tmp_path, "evaluate", (), {"scores": None}, given="x")

    found = reasons(tmp_path)

    assert found.keys() == {"classifier", "evaluate"}
    assert "no finished pseudo-masks" in found["classifier"]


def test_a_benchmark_is_not_a_stage_of_the_way(tmp_path):
    trained, _, _ = make_masks(tmp_path)
    make(tmp_path, "saliency_benchmark", [trained], done=False, method="x")

    assert reasons(tmp_path) == {}


@pytest.mark.parametrize(("began_before", "expected"), [(True, 20.0), (False, 100.0)])
def test_masks_made_while_maps_are_cost_what_they_take_beyond(tmp_path, began_before, expected):
    _, maps, masks = make_masks(tmp_path)
    now = time.time()
    for folder, seconds, started in (
        (maps, 80.0, now), (masks, 100.0, now - 1 if began_before else now + 1),
    ):  # fmt: skip
        manifest = json.loads((folder.path / MANIFEST).read_text())
        manifest |= {"seconds": seconds, "started": started}
        (folder.path / MANIFEST).write_text(json.dumps(manifest))

    (way,) = ways(tmp_path)

    assert way.masks.seconds == expected
    assert way.masks.parents[0].seconds == 80.0


def test_an_empty_folder_holds_nothing(tmp_path):
    assert lineage.stages_in(tmp_path) == []
