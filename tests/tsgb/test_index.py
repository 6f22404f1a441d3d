"""The index of the methods, and what is derived from it."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_method
from omegaconf import OmegaConf

import tsgb
from tsgb import GradCAM, Method
from tsgb.facts import Facts
from tsgb.index import methods

CONFIGS = Path(__file__).parents[2] / "configs" / "saliency"


def test_every_exported_method_has_a_name_of_its_own():
    exported = {value for value in vars(tsgb).values() if inspect.isclass(value)}
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
    """What the line in ``tsgb/__init__.py`` does."""
    monkeypatch.setattr(tsgb, "Throwaway", Throwaway, raising=False)


def test_a_new_method_is_found_by_its_export(throwaway):
    assert methods()["throwaway"] is Throwaway


def test_methods_that_are_not_exported_are_not_found():
    assert "throwaway" not in methods()
