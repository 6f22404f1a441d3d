"""The index of the methods, and what is derived from it."""

import inspect
import re
from pathlib import Path

import pytest
from hydra.utils import get_method
from omegaconf import OmegaConf
from PIL import Image

import tsgb
from scripts.write_method_index import table
from tsgb import GradCAM, Method, _exports
from tsgb.explain.command import main
from tsgb.facts import Facts, Written, written_facts
from tsgb.index import methods

CONFIGS = Path(__file__).parents[2] / "configs" / "saliency"


def test_every_exported_method_has_a_name_of_its_own():
    exported = {value for value in vars(_exports).values() if inspect.isclass(value)}
    concrete = {c for c in exported if issubclass(c, Method) and not inspect.isabstract(c)}

    assert set(methods().values()) == concrete
    for method in concrete:
        assert "facts" in vars(method), f"{method.__name__} inherits its facts"


def test_every_method_has_a_configuration_of_its_name():
    for name, method in methods().items():
        target = OmegaConf.load(CONFIGS / f"{name}.yaml").method._target_
        assert get_method(target) is method


class Throwaway(GradCAM):
    """A method that is not part of the package."""

    facts = Facts("throwaway", "Nobody, Nowhere 2000", "last map", signed=True)


@pytest.fixture
def throwaway(monkeypatch):
    """What the line in ``tsgb/_exports.py`` does."""
    monkeypatch.setattr(_exports, "Throwaway", Throwaway, raising=False)


def test_a_new_method_needs_nothing_but_its_export(throwaway, tmp_path, capsys):
    image = tmp_path / "image.png"
    Image.effect_noise((90, 70), 50).save(image)
    words = ("--model", "squeezenet1_1", "--weights", "none", "--target", "tabby")

    assert methods()["throwaway"] is Throwaway
    assert main(["explain", str(image), *words, "--method", "Throwaway",
                 "--out", str(tmp_path / "map.png")]) == 0  # fmt: skip

    said = capsys.readouterr().out
    assert "map.png: Throwaway of torchvision/squeezenet1_1 (random weights): tabby [281]" in said
    assert "| `Throwaway` | Nobody, Nowhere 2000 | last map | 1 + K | yes |" in table()


def test_methods_that_are_not_exported_are_not_found():
    assert "throwaway" not in methods()


def test_sources_say_the_same_of_the_methods_as_their_classes():
    for name, method in methods().items():
        about = inspect.getdoc(method).partition("\n")[0]
        assert Written(method.__name__, method.facts, about) in written_facts(), name
    assert len(written_facts()) == len(methods())


def test_the_command_lists_every_method(capsys):
    assert main(["methods"]) == 0

    said = capsys.readouterr().out
    for name, method in methods().items():
        assert re.search(rf"^{name} +{method.__name__} +{method.facts.read_out} +\w", said, re.M)


def test_the_package_offers_what_it_exports():
    assert "TSGB" in dir(tsgb)
    assert tsgb.TSGB is methods()["tsgb"]
    with pytest.raises(AttributeError, match=r"^module 'tsgb' has no attribute 'tsgbb'$"):
        _ = tsgb.tsgbb
