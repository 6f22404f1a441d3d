"""What the names mean that people type."""

import re

import pytest
import torch
import torchvision

from tsgb.explain.names import UnknownClassError, choose_classes, matching_classes, similar

IMAGENET = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        pytest.param("281", ["tabby"], id="index"),
        pytest.param("Golden RETRIEVER", ["golden retriever"], id="name"),
        pytest.param("cardigan", ["Cardigan", "cardigan"], id="one-name-two-classes"),
        pytest.param("bear", ["brown bear", "American black bear", "ice bear", "sloth bear"],
                     id="word"),
        pytest.param("icebear", [], id="nothing"),
        pytest.param("1000", [], id="no-such-index"),
        pytest.param("retrie", ["flat-coated retriever", "curly-coated retriever",
                                "golden retriever", "Labrador retriever",
                                "Chesapeake Bay retriever"], id="part"),
    ],
)  # fmt: skip
def test_classes_that_a_word_fits(word, expected):
    assert [IMAGENET[index] for index in matching_classes(word, IMAGENET)] == expected


@pytest.mark.parametrize(
    ("word", "count", "first", "last"),
    [("dog", 118, "Chihuahua", "Mexican hairless"), ("cat", 5, "tabby", "Egyptian cat"),
     ("Bird", 59, "cock", "albatross")],
)  # fmt: skip
def test_words_for_many_classes_of_imagenet(word, count, first, last):
    found = matching_classes(word, IMAGENET)

    assert (len(found), IMAGENET[found[0]], IMAGENET[found[-1]]) == (count, first, last)
    assert matching_classes(word, ["dogma", "catalogue", "birdhouse"]) == [
        ["dog", "cat", "bird"].index(word.lower())
    ]


def test_a_name_made_of_digits_goes_before_an_index():
    assert matching_classes("1", ["0", "7", "1"]) == [2]
    assert matching_classes("2", ["0", "7", "1"]) == [2]


PROBABILITIES = torch.tensor([0.1, 0.3, 0.2, 0.4])
ANIMALS = ["brown bear", "polar bear", "cat", "dog"]


def test_without_words_the_three_most_probable_classes_are_chosen():
    assert [chosen.name for chosen in choose_classes(None, ANIMALS, PROBABILITIES)] == [
        "dog", "polar bear", "cat",
    ]  # fmt: skip
    assert len(choose_classes([], ["a", "b"], torch.tensor([0.5, 0.5]))) == 2


def test_of_several_classes_the_most_probable_is_chosen_and_the_text_says_so():
    bear, cat = choose_classes(["bear", "2"], ANIMALS, PROBABILITIES)

    assert str(bear) == "polar bear [1] 30.0 % (the most probable of 2 that 'bear' fits)"
    assert str(cat) == "cat [2] 20.0 %"
    assert (cat.index, cat.note) == (2, "")


def test_unknown_classes_are_answered_with_similar_names():
    message = "the network has no class 'catt'. Similar are: cat. Give a name, a part of one, or "

    with pytest.raises(UnknownClassError, match=re.escape(message) + "an index from 0 to 3"):
        choose_classes(["dog", "catt"], ANIMALS, PROBABILITIES)


def test_similar_names():
    known = [f"net{number}" for number in range(20)]

    assert similar("NET1", known).startswith("Similar are: net1, ")
    assert similar("zzz", known) == "The first of 20 are: " + ", ".join(known[:8]) + "."
