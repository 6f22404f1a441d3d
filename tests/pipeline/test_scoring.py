import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import confusion_matrix
from torchmetrics.classification import MulticlassJaccardIndex

from pipeline.base.errors import ConfigError, DataError
from pipeline.masks.seed import label_image, normalise, with_background
from pipeline.means import mean_over, miou, scope
from pipeline.scoring import ConfusionMatrix, ThresholdSweep

CLASSES = 4
LABELS = st.sampled_from([*range(CLASSES), 255])


def images(draw_labels=LABELS, count=2):
    shapes = arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)
    return shapes.flatmap(
        lambda shape: st.tuples(
            *[arrays.arrays(np.uint8, shape, elements=draw_labels) for _ in range(count)]
        )
    )


def matrix_of(prediction, ground_truth, classes=CLASSES, **options):
    matrix = ConfusionMatrix(classes, **options)
    matrix.update(np.array(prediction, np.uint8), np.array(ground_truth, np.uint8))
    return matrix


def test_by_hand():
    matrix = matrix_of([[0, 1, 1], [2, 0, 0]], [[0, 1, 2], [2, 1, 255]], classes=3)

    np.testing.assert_array_equal(matrix.counts, [[1, 0, 0], [1, 1, 0], [0, 1, 1]])
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1 / 3, 1 / 2])
    assert matrix.mean_iou() == pytest.approx(4 / 9)
    assert matrix.pixel_accuracy() == pytest.approx(3 / 5)
    assert matrix.coverage() == 1


@pytest.mark.parametrize(
    ("void", "counts", "iou"),
    [
        pytest.param("background", [[2, 0], [1, 1]], [2 / 3, 1 / 2], id="background"),
        pytest.param("excluded", [[1, 0], [0, 1]], [1, 1], id="excluded"),
    ],
)
def test_predicted_void_by_hand(void, counts, iou):
    matrix = matrix_of([[0, 255], [1, 255]], [[0, 0], [1, 1]], classes=2, void=void)

    np.testing.assert_array_equal(matrix.counts, counts)
    np.testing.assert_allclose(matrix.iou(), iou)
    assert matrix.coverage() == 0.5


def test_void_in_both_is_not_counted():
    matrix = matrix_of([[255, 255]], [[255, 0]], classes=2)

    assert matrix.counts.sum() == 1
    assert matrix.coverage() == 0


def test_class_that_is_predicted_but_absent_from_the_ground_truth_counts_as_zero():
    matrix = matrix_of([[0, 2]], [[0, 0]], classes=4)

    np.testing.assert_array_equal(matrix.iou(), [0.5, np.nan, 0, np.nan])
    assert matrix.mean_iou() == 0.25


def test_void_hides_an_absent_class():
    matrix = matrix_of([[0, 2]], [[0, 255]], classes=3)

    np.testing.assert_array_equal(matrix.iou(), [1, np.nan, np.nan])


def test_class_that_is_never_found_counts_as_zero():
    assert matrix_of([[0, 0]], [[0, 1]], classes=2).mean_iou() == 0.25


def test_nothing_counted_is_nan_everywhere():
    matrix = ConfusionMatrix(3)

    assert np.isnan([*matrix.iou(), matrix.mean_iou(), matrix.pixel_accuracy()]).all()
    assert np.isnan(matrix.coverage())


@settings(deadline=None)
@given(images())
def test_counts_equal_scikit_learn(pair):
    prediction, ground_truth = pair
    scored = ground_truth != 255

    background = np.where(prediction == 255, 0, prediction)
    for void, chosen, kept in [
        ("background", background, scored),
        ("excluded", prediction, scored & (prediction != 255)),
    ]:
        counts = matrix_of(prediction, ground_truth, void=void).counts
        if kept.any():
            expected = confusion_matrix(
                ground_truth[kept], chosen[kept], labels=list(range(CLASSES))
            )
            np.testing.assert_array_equal(counts, expected)
        else:
            assert counts.sum() == 0


@settings(deadline=None)
@given(images(), images())
def test_iou_equals_torchmetrics_over_all_images(first, second):
    matrix = ConfusionMatrix(CLASSES)
    metric = MulticlassJaccardIndex(CLASSES, average="none", ignore_index=255)
    for prediction, ground_truth in (first, second):
        matrix.update(prediction, ground_truth)
        background = np.where(prediction == 255, 0, prediction).astype(np.int64)
        metric.update(torch.tensor(background), torch.tensor(ground_truth.astype(np.int64)))

    occurs = matrix.counts.sum(axis=0) + matrix.counts.sum(axis=1) > 0
    np.testing.assert_allclose(matrix.iou()[occurs], metric.compute().numpy()[occurs], rtol=1e-6)
    assert np.isnan(matrix.iou()[~occurs]).all()


@settings(deadline=None)
@given(images(), images())
def test_mean_equals_torchmetrics_over_all_images(first, second):
    matrix = ConfusionMatrix(CLASSES)
    metric = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=255)
    for prediction, ground_truth in (first, second):
        matrix.update(prediction, ground_truth)
        background = np.where(prediction == 255, 0, prediction).astype(np.int64)
        metric.update(torch.tensor(background), torch.tensor(ground_truth.astype(np.int64)))

    if matrix.counts.any():
        assert matrix.mean_iou() == pytest.approx(float(metric.compute()), rel=1e-5)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16])
def test_wider_integers_count_the_same(kind):
    pair = np.array([[0, 1, 255]]), np.array([[0, 3, 1]])
    matrix = ConfusionMatrix(CLASSES)

    matrix.update(pair[0].astype(kind), pair[1].astype(kind))

    np.testing.assert_array_equal(matrix.counts, matrix_of(*pair).counts)


@pytest.mark.parametrize(
    ("prediction", "ground_truth", "message"),
    [
        pytest.param(
            [[0, 0]], [[0], [0]], r"prediction is \(1, 2\) but ground_truth is \(2, 1\)", id="sizes"
        ),
        pytest.param(
            [[0, 7]], [[0, 0]], "prediction has the value\\(s\\) 7 at 1 pixels", id="prediction"
        ),
        pytest.param([[0, 9]], [[0, 255]], "prediction has the value\\(s\\) 9", id="under-void"),
        pytest.param(
            [[0, 0]], [[4, 4]], "ground_truth has the value\\(s\\) 4 at 2 pixels", id="truth"
        ),
        pytest.param([[0, -1]], [[0, 0]], "prediction .* values from -1 to 0", id="negative"),
        pytest.param([[0, 0]], [[0, 300]], "ground_truth .* values from 0 to 300", id="too-large"),
        pytest.param([[0.5, 0]], [[0, 0]], "prediction is float64", id="probabilities"),
        pytest.param([[[0]]], [[[0]]], r"ground_truth is int64 \(1, 1, 1\)", id="colours"),
    ],
)
def test_update_refuses_and_counts_nothing(prediction, ground_truth, message):
    matrix = ConfusionMatrix(CLASSES)

    with pytest.raises(DataError, match=message):
        matrix.update(np.array(prediction), np.array(ground_truth))

    assert matrix.counts.sum() == 0


@pytest.mark.parametrize("classes", [0, 256])
@pytest.mark.parametrize("kind", [ConfusionMatrix, ThresholdSweep])
def test_refuses_number_of_classes(kind, classes):
    with pytest.raises(ConfigError, match=f"classes is {classes}"):
        kind(classes)


def test_refuses_other_void_policies():
    with pytest.raises(ConfigError, match=r"void is 'ignore'.*'background', 'excluded'"):
        ConfusionMatrix(2, void="ignore")


def test_many_classes_fit():
    matrix = matrix_of([[254, 255]], [[254, 254]], classes=255)

    assert matrix.counts[254].tolist() == [1] + [0] * 253 + [1]


@pytest.mark.parametrize("names", [["cat", "dog"], ["background", "cat", "dog"]])
def test_as_dict_is_json_with_names(names):
    matrix = matrix_of([[0, 1, 255]], [[0, 1, 1]], classes=3, void="excluded")

    summary = matrix.as_dict(names)

    assert json.loads(json.dumps(summary, allow_nan=False)) == {
        "mIoU": 1.0,
        "classes": 2,
        "left_out": ["dog"],
        "IoU": {"background": 1.0, "cat": 1.0, "dog": None},
        "pixel_accuracy": 1.0,
        "coverage": pytest.approx(2 / 3),
        "void": "excluded",
        "pixels": 2,
    }


def test_as_dict_refuses_other_names():
    with pytest.raises(ConfigError, match="5 names for 3 classes"):
        ConfusionMatrix(3).as_dict(list("abcde"))


def test_means_over_chosen_classes_leave_out_what_is_undefined():
    scores = matrix_of([[0, 1, 3]], [[0, 1, 1]], classes=5).as_dict(["cat", "cow", "dog", "hen"])

    assert scores["IoU"] == {"background": 1, "cat": 0.5, "cow": None, "dog": 0, "hen": None}
    assert miou(scores, []) == pytest.approx(1.5 / 3)
    assert miou(scores, ["cat"]) == 0.75
    assert miou(scores, ["cat", "cow"]) == 0.75
    assert miou(scores, ["cat", "dog"]) == pytest.approx(1.5 / 3)
    assert mean_over(scores, ["cow", "hen"]) is None


def test_scope_names_at_most_ten_classes():
    iou = {"background": 1.0, **{f"c{k}": None for k in range(12)}}

    assert scope({"IoU": iou}) == (
        "1 of 13 classes; neither in the ground truth nor predicted: "
        "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ..."
    )
    assert scope({"IoU": iou}, ["c3"]).startswith("1 of 2 classes; ")


# Thresholds off the grid of float32 ties, which rounding decides in with_background.
THRESHOLDS = (0.113, 0.317, 0.529, 0.871)


@pytest.mark.parametrize("random_seed", range(3))
def test_sweep_equals_label_images_at_each_threshold(random_seed):
    generator = np.random.default_rng(random_seed)
    sweep = ThresholdSweep(6, THRESHOLDS)
    matrices = [ConfusionMatrix(6) for _ in THRESHOLDS]
    for classes in ([0], [4, 1], [], [2, 3, 0]):
        maps = normalise(generator.normal(0, 1, (len(classes), 7, 9)))
        truth = generator.choice([0, 1, 2, 3, 4, 5, 255], (7, 9)).astype(np.uint8)
        sweep.update(maps, classes, truth)
        for matrix, threshold in zip(matrices, THRESHOLDS, strict=True):
            matrix.update(label_image(with_background(maps, threshold), classes), truth)

    np.testing.assert_array_equal(sweep.counts(), [matrix.counts for matrix in matrices])
    means = [matrix.mean_iou() for matrix in matrices]
    assert sweep.best() == (THRESHOLDS[np.argmax(means)], pytest.approx(max(means)))


def test_sweep_resizes_maps_bilinearly():
    sweep = ThresholdSweep(2, [0.3, 0.6])
    truth = np.array([[0, 0, 1, 1]] * 2)

    sweep.update(np.array([[[0.0, 1.0]]], np.float32), [0], truth)  # becomes 0, 0.25, 0.75, 1

    np.testing.assert_array_equal(sweep.counts()[0], [[4, 0], [0, 4]])
    assert sweep.best() == (0.3, 1.0)


def test_sweep_sorts_thresholds_and_prefers_the_lowest_of_equals():
    sweep = ThresholdSweep(2, [0.9, 0.2, 0.4])

    sweep.update(np.array([[[0.1, 0.5]]], np.float32), [0], np.array([[0, 1]]))

    assert sweep.thresholds == (0.2, 0.4, 0.9)
    assert sweep.best() == (0.2, 1.0)


def test_sweep_as_plain_values_has_a_curve_for_each_class():
    sweep = ThresholdSweep(3, [0.2, 0.6])
    sweep.update(np.array([[[0.1, 0.5, 0.9]]], np.float32), [0], np.array([[0, 1, 1]]))

    assert sweep.as_dict(["cat", "dog"]) == {
        "threshold": 0.2, "mIoU": 1.0, "thresholds": [0.2, 0.6],
        "IoU": {"background": [1.0, 0.5], "cat": [1.0, 0.5], "dog": [None, None]},
    }  # fmt: skip


def test_sweep_refuses_no_thresholds():
    with pytest.raises(ConfigError, match="thresholds is empty"):
        ThresholdSweep(2, [])


def test_sweep_without_ground_truth_has_no_best():
    sweep = ThresholdSweep(2)
    sweep.update(np.ones((1, 2, 2)), [0], np.full((2, 2), 255, np.uint8))

    with pytest.raises(DataError, match="no pixel with ground truth"):
        sweep.best()


@pytest.mark.parametrize(
    ("maps", "classes", "truth", "message"),
    [
        pytest.param(
            np.ones((2, 3, 3)), [0], [[0]], r"maps is \(2, 3, 3\) for 1 classes", id="number"
        ),
        pytest.param(np.ones((3, 3)), [0], [[0]], r"maps is \(3, 3\)", id="shape"),
        pytest.param(np.ones((1, 3, 3)), [2], [[0]], r"class indices \[2\]", id="class"),
        pytest.param(np.ones((1, 3, 3)), [-1], [[0]], r"class indices \[-1\]", id="negative"),
        pytest.param(
            np.ones((1, 3, 3)), [0], [[3]], "ground_truth has the value\\(s\\) 3", id="truth"
        ),
        pytest.param(np.full((1, 3, 3), np.nan), [0], [[0]], "NaN", id="nan"),
    ],
)
def test_sweep_update_refuses(maps, classes, truth, message):
    with pytest.raises(DataError, match=message):
        ThresholdSweep(3).update(maps, classes, np.array(truth))
