"""What lies in a folder, from manifests written by hand."""

import json
import re

from pipeline.run import lineage
from pipeline.run.folders import StageFolder
from pipeline.run.manifest import MANIFEST
from tests.pipeline.run.manifests import MADE_BY, make, make_masks, make_score, make_segmenter


def ways(root):
    return list(lineage.lineages(lineage.stages_in(root)))


def test_masks_are_followed_back_to_their_classifier(tmp_path):
    trained, maps, masks = make_masks(tmp_path)

    (way,) = ways(tmp_path)

    assert [s.path for s in way.masks.ancestors()] == [trained.path, maps.path, masks.path]
    assert way.segmenter is None


def test_each_segmenter_is_a_way_of_its_own_with_its_scores(tmp_path):
    trained, _, masks = make_masks(tmp_path)
    segmenters = [make_segmenter(tmp_path, [masks, trained], epochs=epochs) for epochs in (2, 3)]
    scored = [make_score(tmp_path, segmenters[0], 0.5, scales) for scales in ("1", "2")]

    found = {way.segmenter.path: way for way in ways(tmp_path)}

    assert found.keys() == {segmenter.path for segmenter in segmenters}
    assert {s.path for s in found[segmenters[0].path].scored} == {s.path for s in scored}
    assert found[segmenters[1].path].scored == ()


def test_a_twin_has_the_same_recipe_seed_and_classifier(tmp_path):
    trained, _, masks = make_masks(tmp_path)
    segmenter = make_segmenter(tmp_path, [masks, trained])
    twin = make_segmenter(tmp_path, [trained], "ground_truth")
    longer = make_segmenter(tmp_path, [trained], "ground_truth", epochs=9)
    other_seed = make_segmenter(tmp_path, [trained], "ground_truth", random_seed=5)
    from_nothing = make_segmenter(tmp_path, [], "ground_truth")
    for other in (segmenter, twin, longer, other_seed, from_nothing):
        make_score(tmp_path, other, 0.5)

    (way,) = ways(tmp_path)

    assert [score.parents[0].path for score in way.twin_scored] == [twin.path]


def test_a_second_segmenter_belongs_to_the_masks_that_the_first_learned_from(tmp_path):
    trained, _, masks = make_masks(tmp_path)
    first = make_segmenter(tmp_path, [masks, trained])
    summary = {"scored_by": {"truth": "1"}}
    again = make(tmp_path, "relabel", [first], summary, relabel={"flip": True})
    second = make_segmenter(tmp_path, [trained], "given", learned_from=again)
    twin = make_segmenter(tmp_path, [trained], "ground_truth")
    make_score(tmp_path, second, 0.6)
    make_score(tmp_path, twin, 0.8)

    (way,) = ways(tmp_path)  # the first segmenter only taught the second

    assert [s.path for s in way.training] == [first.path, again.path, second.path]
    assert [score.parents[0].path for score in way.twin_scored] == [twin.path]

    make_score(tmp_path, first, 0.5)
    assert {w.segmenter.path for w in ways(tmp_path)} == {first.path, second.path}


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
    assert reasons(tmp_path)["pseudo_labels"] == "not scored yet: killed before that"


def test_masks_without_ground_truth_are_finished(tmp_path):
    make_masks(tmp_path, summary={"images": 4, "scored_by": {"truth": ""}, "scores": None})

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
    assert "remade since, by other code" in reasons(tmp_path)["pseudo_labels"]


def test_a_deleted_parent_is_named(tmp_path):
    import shutil

    _, maps, _ = make_masks(tmp_path)
    shutil.rmtree(maps.path)

    assert reasons(tmp_path)["pseudo_labels"] == f"what it was made from ({maps.path.name}) is gone"


def test_a_damaged_manifest_is_named(tmp_path):
    _, _, masks = make_masks(tmp_path)
    (masks.path / MANIFEST).write_text("{")

    assert f"{masks.path / MANIFEST}: damaged" in reasons(tmp_path)["pseudo_labels"]


def test_a_classifier_without_masks_and_given_masks_are_named(tmp_path):
    trained, _, _ = make_masks(tmp_path)
    make(tmp_path, "classifier", (), {"mAP": 0.1}, random_seed=8, classifier={"backbone": "other"})
    make(
        tmp_path, "evaluate", [trained], {"scores": None, "scored_by": {}}, given="x"
    )  # with its prior

    found = reasons(tmp_path)

    assert found.keys() == {"classifier", "evaluate"}
    assert "no finished pseudo-masks" in found["classifier"]


def test_a_benchmark_is_not_a_stage_of_the_way(tmp_path):
    trained, _, _ = make_masks(tmp_path)
    make(tmp_path, "saliency_benchmark", [trained], done=False, method="x")

    assert reasons(tmp_path) == {}


def test_a_folder_of_another_version_is_named(tmp_path):
    _, maps, _ = make_masks(tmp_path)
    manifest = json.loads((maps.path / MANIFEST).read_text())
    for gone in ("layout", "seal"):  # the first version had none
        del manifest[gone]
    (maps.path / MANIFEST).write_text(json.dumps(manifest))

    assert re.search(r"made by another version .*run_dir", reasons(tmp_path)["saliency"])


def test_an_empty_folder_holds_nothing(tmp_path):
    assert lineage.stages_in(tmp_path) == []
