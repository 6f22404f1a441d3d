"""Settings: in the words of the command, where they differ, and what an ablation changed."""

from itertools import permutations

import pytest

from pipeline.report.choices import ablation_of, class_word, described, differing, flattened

CRF, PAR = {"_target_": "a.CRF", "iterations": 5}, {"_target_": "a.PAR"}
CHAIN = {"_target_": "a.Chain", "steps": {"par": PAR, "crf": CRF}}


def choice(method="a.TSGB", refine=None, **plain):
    """Settings of one run."""
    found = flattened("saliency", {"_target_": method, "kappa": 0.5})
    found |= flattened("refine", refine or {"_target_": "a.None"})
    return found | {
        k: v for name, value in plain.items() for k, v in flattened(name, value).items()
    }


def values(settings):
    return {name: setting.value for name, setting in settings.items()}


def test_a_target_is_the_value_of_its_group_with_what_it_is_made_of():
    base = {"_target_": "c.D", "_partial_": True, "k": [1, 2]}
    found = flattened("refine", {"_target_": "a.b.CRF", "base": base, "n": 3})

    assert values(found) == {"refine": "CRF(D)", "refine.base.k": "[1, 2]", "refine.n": "3"}
    assert found["refine.n"].owner == found["refine"].owns
    assert found["refine.base.k"].owner not in (found["refine.n"].owner, "refine")


def test_parts_of_parts_are_named():
    product = {"_target_": "t.Product", "fine": {"_target_": "t.TSGB"}, "coarse": {"_target_": "C"}}

    assert class_word("m", {"_target_": "p.X", "base": product}) == "X(Product(TSGB, C))"


def test_the_word_of_the_command_is_the_value_and_options_belong_to_it():
    def preset(_group, node):
        return "crf_a" if node["iterations"] > 5 else "crf"

    few, many = (flattened("refine", {**CRF, "iterations": n}, preset) for n in (5, 10))

    assert described(many, ["refine"]) == "refine=crf_a"
    assert differing([few, many]) == ["refine"]  # the preset says the number of iterations


def test_wrapped_methods_differ_in_their_name_and_not_in_options_of_their_own():
    def wrapped(base, **options):
        return {"_target_": "t.X", "base": {"_target_": base, **options}, "rectify": True}

    runs = [choice(refine=wrapped("t.A", kappa=1)), choice(refine=wrapped("t.B", layer="x"))]
    assert differing(runs) == ["refine"]

    runs.append(choice(refine=wrapped("t.A", kappa=2)))
    assert differing(runs) == ["refine", "refine.base.kappa"]


def test_options_differ_only_where_what_they_belong_to_is_the_same():
    runs = [
        choice(), choice(refine=CRF), choice(refine={**CRF, "iterations": 9}),
        choice("a.CAM", refine=CRF),
    ]  # fmt: skip

    assert differing(runs) == ["saliency", "refine", "refine.iterations"]


def test_an_option_that_one_of_two_equals_has_differs():
    runs = [choice(refine=CRF), choice(refine={**CRF, "new": 1})]

    assert differing(runs) == ["refine.new"]


def ablated():
    """A chain; and less of it, in four ways."""
    return [
        choice(refine=CHAIN, flip="true", size="33"), choice(refine=CRF, flip="true", size="33"),
        choice(refine=PAR, flip="true", size="33"),
        choice("a.CAM", refine=CHAIN, flip="true", size="33"),
        choice(refine=CHAIN, flip="false", size="99"),
    ]  # fmt: skip


def ablation(runs):
    return ablation_of(runs, differing(runs))


def test_the_choice_that_all_others_are_made_from_is_the_reference():
    runs = ablated()
    found = ablation(runs)

    assert [found.changed(run) for run in runs] == [
        "reference", "refine=CRF", "refine=PAR", "saliency=CAM", "flip=false, size=99",
    ]  # fmt: skip
    assert found.choice == "saliency=TSGB, refine=Chain(PAR, CRF), flip=true, size=33"


def test_the_reference_is_the_same_in_any_order():
    runs = ablated()
    names = differing(runs)

    assert {ablation_of(order, names).choice for order in permutations(runs)} == {
        ablation(runs).choice
    }


def fractional():
    """Half of all combinations of three things, as in a design of experiments."""
    designs = ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1))
    return [choice(flip=str(a), size=str(b), power=str(c)) for a, b, c in designs]


@pytest.mark.parametrize(
    "runs",
    [
        [choice(m, refine=r) for m in ("a.TSGB", "a.CAM") for r in (CRF, PAR)],  # a grid
        [choice(f"a.{name}") for name in "ABCDE"],  # one thing, in many ways
        [*ablated(), choice("a.CAM", refine=CRF, flip="true", size="33")],  # two things at once
        fractional(),
        [*ablated(), choice(refine=CHAIN, flip="true", size="99")],  # this and another thing
    ],
)
def test_other_comparisons_are_no_ablation(runs):
    assert ablation(runs) is None


def test_an_option_of_what_others_do_not_have_is_one_thing():
    """Another number of the CRF is one change; a line without a CRF is another one."""
    runs = [
        choice(refine=CRF), choice(refine={**CRF, "iterations": 3}), choice(refine=PAR),
        choice("a.CAM", refine=CRF),
    ]  # fmt: skip
    found = ablation(runs)

    assert [found.changed(run) for run in runs] == [
        "reference", "iterations=3", "refine=PAR", "saliency=CAM",
    ]  # fmt: skip


def test_words_tell_equal_names_apart_and_say_what_is_gone():
    def run(size, own, **more):
        walk = {"_target_": "a.Walk", "size": own}
        return choice(refine=walk, segmenter={"size": size, **more})

    runs = [run(8, 3, rates="1"), run(8, 5, rates="1"), run(4, 3, rates="1"), run(8, 3)]
    found = ablation(runs)

    assert [found.changed(one) for one in runs] == [
        "reference", "refine.size=5", "segmenter.size=4", "without rates",
    ]  # fmt: skip
