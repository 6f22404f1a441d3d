"""The mean and deviation that a network was trained with: of its record, or of the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from pipeline.base.config import ClassifierConfig, SegmenterConfig
from pipeline.base.errors import ConfigError
from pipeline.data.bands import Bands
from pipeline.networks.pixels import constants

Config = TypeVar("Config", bound=ClassifierConfig | SegmenterConfig)

# Encoders of segmentation-models-pytorch that timm, which keeps their record, calls otherwise.
_IN_TIMM = {
    "inceptionresnetv2": "inception_resnet_v2",
    "inceptionv4": "inception_v4",
    "xception": "legacy_xception",
}

# timm's networks for tests of code. From noise any colours will do, and the built-in recipe, which
# has one of these, was measured with ImageNet's.
_TOYS = "test_"


@dataclass(frozen=True)
class Colours:
    """How colours become the input of a network.

    Attributes:
        mean: Mean of each channel: of red, green and blue in [0, 1], or of bands in their values.
        deviation: Standard deviation of each channel, likewise.
        unit: The value that stands for 1: 255 for photos, 1 for bands.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    unit: float = 255

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels [B, C, H, W] as float32 input of the network: RGB in [0, 255], or bands.

        Example:
            >>> IMAGENET.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))[0, 0, 0, 0]
            tensor(2.2489)
        """
        mean = constants(self.mean, images.device).view(1, -1, 1, 1)
        deviation = constants(self.deviation, images.device).view(1, -1, 1, 1)
        return (images.float() / self.unit - mean) / deviation

    def noise(self, count: int, height: int, width: int) -> Tensor:
        """Random pixels [count, C, height, width] such as a network may get; always the same."""
        generator = torch.Generator().manual_seed(0)
        size = (count, len(self.mean), height, width)
        if self.unit == 255:  # as photos are stored
            return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        noise = torch.randn(size, generator=generator)
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.deviation))
        return noise * deviation + mean


IMAGENET = Colours((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def colours_of(config: ClassifierConfig | SegmenterConfig, bands: Bands | None = None) -> Colours:
    """The mean and deviation that a configuration gives."""
    unit = 255 if bands is None else 1
    return Colours(tuple(config.mean or ()), tuple(config.deviation or ()), unit)


def with_colours(
    config: Config, start: ClassifierConfig | None = None, bands: Bands | None = None
) -> Config:
    """A configuration with its network's own mean and deviation where none are given.

    Args:
        config: Configuration of a classifier or a segmenter.
        start: Configuration of the run's classifier. A segmenter whose encoder starts from it sees
            the same colours.
        bands: The bands of the data, whose statistics take the place of a record; None for photos.

    Raises:
        ConfigError: What is given are not three numbers.

    Example:
        >>> with_colours(SegmenterConfig(encoder="tu-tf_efficientnet_lite0")).mean
        [0.5, 0.5, 0.5]
    """
    if bands is not None:
        return replace(config, mean=list(bands.mean), deviation=list(bands.deviation))
    if config.mean is None or config.deviation is None:
        same = isinstance(config, SegmenterConfig) and config.weights == "classifier"
        known = colours_of(with_colours(start)) if start and same else _recorded(config)
        mean, deviation = config.mean or list(known.mean), config.deviation or list(known.deviation)
        config = replace(config, mean=mean, deviation=deviation)
    _check(config)
    return config


def _recorded(config: ClassifierConfig | SegmenterConfig) -> Colours:
    if isinstance(config, SegmenterConfig):
        name = config.encoder.removeprefix("tu-").removeprefix("timm-")
    elif config.library == "timm":
        name = config.backbone
    else:
        return _of_torchvision(config.backbone)
    if config.weights == "none" and name.startswith(_TOYS):
        return IMAGENET
    return _of_timm(_IN_TIMM.get(name, name))


def _of_timm(name: str) -> Colours:
    """The record of a network; ImageNet's for a name that is refused where the network is made."""
    import timm  # seconds that settings with colours of their own do without

    if ":" not in name and not timm.is_model(name):
        return IMAGENET
    try:
        record = timm.get_pretrained_cfg(name)
        if record is None:  # an address or an outdated name, where the network itself knows
            made = timm.data.resolve_model_data_config(timm.create_model(name))
            return Colours(tuple(made["mean"]), tuple(made["std"]))
    except (RuntimeError, OSError, ValueError):
        return IMAGENET
    return Colours(tuple(record.mean), tuple(record.std))


def _of_torchvision(name: str) -> Colours:
    """The record of a network; see :func:`_of_timm`."""
    from torchvision.models import get_model_weights  # likewise

    try:
        preset = get_model_weights(name).DEFAULT.transforms()
        return Colours(tuple(preset.mean), tuple(preset.std))
    except (ValueError, AttributeError):  # unknown, or not a classifier
        return IMAGENET


def _check(config: ClassifierConfig | SegmenterConfig) -> None:
    group = "classifier" if isinstance(config, ClassifierConfig) else "segmenter"
    for name in ("mean", "deviation"):
        values = getattr(config, name)
        if len(values) != 3:
            raise ConfigError(
                f"{group}.{name}: {list(values)}. Give three numbers, of red, green and blue, as "
                "shares of 255; or null for those of the network's library."
            )
