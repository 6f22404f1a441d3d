"""Networks of torchvision and timm by name."""

import sys

import pytest
import timm
import torchvision
from torch import nn

from tsgb._networks import UnknownNetworkError, make_network, similar
from tsgb._optional import MissingPackageError


@pytest.mark.parametrize(
    ("library", "name", "kind"),
    [
        ("torchvision", "squeezenet1_1", torchvision.models.SqueezeNet),
        ("timm", "test_resnet", timm.models.ResNet),
    ],
)
def test_a_network_by_name(library, name, kind):
    assert isinstance(make_network(library, name, download=False), kind)


@pytest.mark.parametrize(
    ("library", "name", "message"),
    [
        (
            "torchvision",
            "resnet19",
            r"^torchvision has no classifier 'resnet19'\. Similar are: .*re",
        ),
        ("torchvision", "fcn_resnet50", r"^torchvision has no classifier 'fcn_resnet50'"),
        ("timm", "resnet51.a1_in1k", r"^timm has no classifier 'resnet51\.a1_in1k'\. .*resnet50"),
    ],
)
def test_names_that_mean_nothing(library, name, message):
    with pytest.raises(UnknownNetworkError, match=message):
        make_network(library, name, download=False)


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_tags_and_places_are_left_to_timm(name, monkeypatch):
    asked = []

    def create(*args, **kwargs):
        asked.append((args, kwargs))
        return nn.Identity()

    monkeypatch.setattr(timm, "create_model", create)

    make_network("timm", name, download=True)

    assert asked == [((name,), {"pretrained": True})]


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(MissingPackageError, match=r"^timm networks: the package timm is not inst"):
        make_network("timm", "resnet18", download=False)


def test_names_that_are_like_another():
    known = [f"net{number}" for number in range(20)]

    assert similar("NET1", known).startswith("Similar are: net1, ")
    assert similar("zzz", known) == "The first of 20 are: " + ", ".join(known[:8]) + "."
