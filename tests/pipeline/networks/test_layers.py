"""The layers that methods read, found in a network."""

import pytest

from pipeline.base.errors import ConfigError
from pipeline.networks.layers import layer_of
from pipeline.run.settings import plain
from tests.conftest import composed


@pytest.mark.parametrize("option", ["mobilenet_v2", "efficientnet_lite", "resnet50"])
def test_the_layers_of_the_configurations_are_found(option):
    given = plain(composed(f"classifier={option}")).classifier

    found = [layer_of(given.library, given.backbone, which) for which in ("middle", "last")]

    assert found == [given.middle_layer, given.last_layer]


@pytest.mark.parametrize(
    ("name", "middle", "last"),
    [
        ("mobilenetv3_small_050", "backbone.blocks.3", "backbone.conv_head"),
        ("regnetx_002", "backbone.s3", "backbone.s4"),
        ("resnetv2_18", "backbone.stages.2", "backbone.norm"),
        ("densenet121", "backbone.features.denseblock3", "backbone.features"),
    ],
)
def test_chains_within_chains_are_followed(name, middle, last):
    assert [layer_of("timm", name, which) for which in ("middle", "last")] == [middle, last]


def test_a_network_that_is_no_chain_is_refused_with_the_setting_that_helps():
    words = ["classifier=timm", "classifier.backbone=hrnet_w18_small"]

    with pytest.raises(ConfigError, match=r"classifier\.middle_layer: timm/hrnet.*backbone\.conv1"):
        plain(composed(*words))

    given = plain(composed(*words, "classifier.middle_layer=backbone.incre_modules.2")).classifier
    assert given.last_layer == "backbone.final_layer"


def test_an_unknown_network_is_named_where_settings_are_read():
    with pytest.raises(ConfigError, match=r"no classifier .resnet_18.\. Similar are: resnet18"):
        plain(composed("classifier=timm", "classifier.backbone=resnet_18"))
