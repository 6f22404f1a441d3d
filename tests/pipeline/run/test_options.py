"""What a command calls the settings that it was given."""

import pytest

from pipeline.base.config import RunConfig
from pipeline.run.options import word_of
from pipeline.run.schema import CONFIGS
from pipeline.run.settings import plain
from tests.conftest import composed

NAMES = [(g, path.stem) for g in ("refine", "saliency") for path in (CONFIGS / g).glob("*.yaml")]


def settings_of(*words) -> RunConfig:
    return plain(composed(*words))


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_every_option_is_called_as_it_was_chosen(group, name):
    settings = settings_of(f"{group}={name}")

    node = settings.refine if group == "refine" else settings.saliency.method
    assert word_of("refine" if group == "refine" else "saliency.method", node) == name


def test_an_option_with_other_values_keeps_the_nearest_name():
    settings = settings_of("refine=crf_b", "refine.iterations=3")

    assert word_of("refine", settings.refine) == "crf_b"


def test_what_no_file_builds_has_the_name_of_its_class():
    assert word_of("refine", {"_target_": "mine.Snake", "size": 3}) == "Snake"
