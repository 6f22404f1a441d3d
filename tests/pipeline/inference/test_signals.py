"""Signals of an image, and the order of images by them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.inference.signals import SIGNALS, Seen, reason, score_of, signals_of, standings

CAT, DOG = 0, 1


def labels(*values):
    return np.array([values], dtype=np.uint8)


def seen(network, named=(CAT,), *, mask=None, view=None, sure=(1.0, 0.0), believed=(1.0, 0.0)):
    network = labels(*network)
    pairs = [(network, network if view is None else labels(*view))]
    return Seen(
        named, network, pairs, np.array(sure, np.float32), np.array(believed, np.float32),
        None if mask is None else labels(*mask),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "signal", "value"),
    [
        (seen([0, 1, 1, 0], mask=[0, 1, 1, 0]), "network_vs_mask", 0.0),
        (seen([0, 1, 1, 0], mask=[0, 1, 1, 255]), "network_vs_mask", 0.0),  # void does not count
        (seen([0, 1, 1, 0], mask=[0, 0, 1, 0]), "network_vs_mask", 1 - (2 / 3 + 1 / 2) / 2),
        (seen([0, 1, 1, 0], mask=[255] * 4), "network_vs_mask", 1.0),
        (seen([0, 1], view=[0, 1]), "scales_and_mirror", 0.0),
        (seen([0, 1], view=[0, 2]), "scales_and_mirror", 2 / 3),
        (seen([0, 1], sure=(0.9, 0.3), believed=(1.0, 0.1)), "network_vs_classifier", 0.2),
        (seen([0, 1], named=(CAT,)), "named_not_found", 0.0),
        (seen([0, 1], named=(CAT, DOG)), "named_not_found", 1.0),
        (seen([0, 0], named=(CAT, DOG)), "named_not_found", 2.0),
        (seen([0, 1, 2, 2], named=(CAT,)), "found_not_named", 0.5),
        (seen([0, 1, 2, 2], named=()), "found_not_named", 0.75),
    ],
)
def test_signals_by_hand(what, signal, value):
    assert signals_of(what)[signal] == pytest.approx(value, abs=1e-4)


def test_an_image_without_pseudo_mask_has_the_other_signals():
    assert list(signals_of(seen([0, 1]))) == [name for name in SIGNALS if name != "network_vs_mask"]
    assert list(signals_of(seen([0, 1], mask=[0, 1]))) == list(SIGNALS)


VALUES = st.dictionaries(st.sampled_from(list(SIGNALS)), st.floats(0, 2), min_size=1)


@settings(max_examples=50)
@given(st.dictionaries(st.text("abc", min_size=1), VALUES, min_size=1, max_size=6))
def test_scores_are_shares_and_more_of_every_signal_is_never_lower(images):
    places = standings(images)

    for standing in places.values():
        assert all(0 < share < 1 for share in standing.values())
        assert 0 < score_of(standing) < 1
    for one, first in images.items():
        for other, second in images.items():
            if first.keys() == second.keys() and all(first[k] >= second[k] for k in first):
                assert score_of(places[one]) >= score_of(places[other])


# Numbers of 32 bits, halved in 64: none is rounded.
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_a_scale_of_a_signal_does_not_matter(values):
    one, other = (
        standings({str(k): {"x": factor * value} for k, value in enumerate(values)})
        for factor in (1.0, 0.5)
    )
    assert one == other


def note(**signals):
    return {
        "signals": signals, "shares": [0.0, 0.003], "sureness": [0.2, 0.6], "believed": [0.93, 0.5],
    }  # fmt: skip


def test_reasons_are_words():
    standing = {
        "network_vs_mask": 0.9, "scales_and_mirror": 0.8, "network_vs_classifier": 0.99,
        "named_not_found": 0.9, "found_not_named": 0.76,
    }  # fmt: skip

    said = reason([CAT], ["cat", "dog"], note(network_vs_mask=1.0, scales_and_mirror=0.3), standing)

    assert said.split(". ") == [
        "The label says cat; the network found none",
        "The network found dog on less than 1 % of the pixels; the label does not name it",
        "cat: the classifier is 93 % sure, the network at its surest pixel 20 %",
        "Network and pseudo-mask overlap by 0 %",
        "Mirrored or smaller, the photo gets other labels: they overlap by 70 %",
    ]


def test_an_image_like_all_others_has_no_reason():
    assert reason([DOG], ["cat", "dog"], note(), {"network_vs_mask": 0.5}) == (
        "No single sign stands out"
    )
