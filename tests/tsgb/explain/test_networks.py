"""Networks of torchvision and timm by name."""

import sys

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models import ResNet18_Weights

from tsgb._optional import MissingPackageError
from tsgb.explain.networks import DownloadError, NetworkError, UnknownNetworkError, load_network
from tsgb.explain.state_dicts import WeightsError


@pytest.mark.parametrize(
    ("library", "name", "kind"),
    [
        ("torchvision", "squeezenet1_1", torchvision.models.SqueezeNet),
        ("timm", "test_resnet", timm.models.ResNet),
    ],
)
def test_a_network_by_name(library, name, kind):
    assert isinstance(load_network(library, name, "none"), kind)


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
def test_unknown_names_are_answered_with_similar_ones(library, name, message):
    with pytest.raises(UnknownNetworkError, match=message):
        load_network(library, name, "none")


def test_unknown_libraries_are_refused():
    with pytest.raises(NetworkError, match=r"^library 'keras' is unknown\. Choose torchvision or"):
        load_network("keras", "resnet18", "none")


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "hf-hub:timm/resnet18.a1_in1k"])
def test_tags_and_addresses_are_left_to_timm(name, monkeypatch):
    asked = []

    def create(*args, **kwargs):
        asked.append((args, kwargs))
        return nn.Identity()

    monkeypatch.setattr(timm, "create_model", create)

    load_network("timm", name, "download")

    assert asked == [((name,), {"pretrained": True})]


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    saved = timm.create_model("test_resnet")
    torch.save({"state_dict": saved.state_dict()}, tmp_path / "weights.pth")

    network = load_network("timm", "test_resnet", str(tmp_path / "weights.pth"))

    torch.testing.assert_close(network.state_dict(), saved.state_dict())


def test_weights_of_a_deeper_network_do_not_fit(tmp_path):
    """All tensors of ResNet-50 are in ResNet-101, in the same shapes, and mean something else."""
    torch.save(torchvision.models.resnet101().state_dict(), tmp_path / "weights.pth")

    with pytest.raises(WeightsError, match=r"layer3\.6\.conv1\.weight: not in the network"):
        load_network("torchvision", "resnet50", str(tmp_path / "weights.pth"))


def test_googlenet_scales_its_input_with_weights_from_a_file_too(tmp_path):
    """Its published weights expect it, and torchvision sets it only with those."""
    published = torchvision.models.googlenet(transform_input=True, init_weights=False).eval()
    torch.save(published.state_dict(), tmp_path / "weights.pth")

    network = load_network("torchvision", "googlenet", str(tmp_path / "weights.pth")).eval()

    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), published(images))


def test_options_go_to_the_library_or_are_named():
    assert load_network("timm", "test_resnet", "none", num_classes=3).num_classes == 3
    with pytest.raises(NetworkError, match=r"^timm/test_resnet does not take {'depth': 3}:"):
        load_network("timm", "test_resnet", "none", depth=3)
    with pytest.raises(NetworkError, match=r"densenet121 does not take {'output_stride': 16}"):
        load_network("timm", "densenet121", "none", output_stride=16)


def test_failed_downloads_name_the_remedy(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", fail)

    with pytest.raises(DownloadError, match=r"of 'resnet18' \(no route to host\)\. Without a") as e:
        load_network("torchvision", "resnet18", "download")
    assert ResNet18_Weights.DEFAULT.url in str(e.value)


def test_networks_without_published_weights_have_no_address():
    with pytest.raises(DownloadError, match="get weights on another computer"):
        load_network("timm", "resnet200", "download")


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(MissingPackageError, match=r"^timm networks: the package timm is not inst"):
        load_network("timm", "resnet18", "none")
