"""Numbers out of their range, and keys that nothing reads, stop a command."""

import math
from dataclasses import fields, is_dataclass

import pytest

from pipeline.base.config import RunConfig
from pipeline.base.errors import ConfigError
from pipeline.run.settings import RANGES, Range, check_settings, plain
from tests.conftest import composed


def numbers(node, prefix=""):
    """Every number and list of numbers among the settings."""
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            yield from numbers(value, f"{prefix}{field.name}.")
        elif any(word in str(field.type) for word in ("int", "float")):
            yield f"{prefix}{field.name}", field.name


def test_every_number_has_a_range_and_every_range_a_number():
    found = dict(numbers(RunConfig()))

    for key, name in found.items():
        assert RANGES.keys() & {key, name}, key
    for name in RANGES:
        assert name in found or name in found.values(), name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("classifier.epochs=0", "classifier.epochs=0: out of range. Choose 1 or more."),
        ("segmenter.epochs=-1", "Choose 1 or more"),
        ("segmenter.batch_size=0", "Choose 1 or more"),
        ("trainer.workers=-1", "Choose 0 or more"),
        ("segmenter.learning_rate=0", "Choose above 0"),
        ("segmenter.learning_rate=nan", "nan: out of range"),
        ("segmenter.ema=1", "Choose 0 or more, below 1"),
        ("classifier.crop_area=[0.0,0.5]", "Choose above 0, up to 1"),
        ("classifier.crop_area=[0.9,0.5]", "the smaller first"),
        ("segmenter.scale=[1.0]", "give two numbers"),
        ("evaluate.scales=[]", "empty. Give one or more"),
        ("evaluate.scales=[1,-1]", "out of range"),
        ("saliency.images=0", "Choose 1 or more"),
        ("seed.threshold=1", "Choose above 0, below 1"),
        ("random_seed=4294967296", "Choose 0 or more, up to 4294967295"),
        ("benchmark.threshold=1.5", "Choose above 0, up to 1"),
    ],
)
def test_a_number_out_of_its_range_is_named_with_its_range(word, message):
    with pytest.raises(ConfigError) as raised:
        check_settings(plain(composed(word)))
    assert message in str(raised.value)


@pytest.mark.parametrize("word", ["benchmark.threshold=1", "saliency.images=null", "seed.power=3"])
def test_numbers_at_the_ends_pass(word):
    check_settings(plain(composed(word)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+saliency.method.kapa=1"], "saliency.method.kapa: tsgb.TSGB has no such argument. Did "),
        (["+refine.sxyz=1"], "refine.sxyz: "),
        (["refine=walk_crf", "+refine.steps.crf.nothing=1"], "refine.steps.crf.nothing: "),
        (["+data.imagess=x"], "data.imagess: "),
        (
            ["+logger.own={_target_: pytorch_lightning.loggers.CSVLogger, typo: 1}"],
            "logger.own.typo: ",
        ),
    ],
)
def test_a_key_that_nothing_reads_is_named(words, message):
    with pytest.raises(ConfigError) as raised:
        check_settings(plain(composed(*words)))
    assert message in str(raised.value)


def test_a_target_that_cannot_be_imported_is_named():
    with pytest.raises(ConfigError, match=r"_target_: 'tsgb\.Tsgb' cannot be imported"):
        check_settings(plain(composed("saliency.method._target_=tsgb.Tsgb")))


def test_all_problems_are_named_at_once():
    with pytest.raises(ConfigError) as raised:
        check_settings(plain(composed("classifier.epochs=0", "segmenter.epochs=0")))
    assert str(raised.value).count("out of range") == 2


def test_not_a_number_is_in_no_range():
    assert math.nan not in Range(-math.inf)
    assert 1 in Range(0, 1)
    assert 1 not in Range(0, 1, ")")
