"""Images of any number of bands: what their values mean to a network and to the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.base.arrays import Image, Pixels
from pipeline.base.errors import ConfigError, DataError

_REACH = 2.0  # deviations on either side of the mean that a picture spans


@dataclass(frozen=True)
class Bands:
    """The bands of a data set, with the statistics of its training images.

    Attributes:
        channels: Number of bands.
        shown: The bands that pictures show as red, green and blue, from 0.
        values: Type of the values in the files, such as ``uint16``; empty before it is known.
        mean: Mean of each band over the training images, in the values of the files.
        deviation: Standard deviation of each band, likewise.
    """

    channels: int
    shown: tuple[int, ...]
    values: str = ""
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @classmethod
    def chosen(cls, channels: int | None, shown: Sequence[int] | None) -> Self | None:
        """What the settings say; None for photos, which have three channels of 8 bits.

        Args:
            channels: ``data.channels``.
            shown: ``data.bands``, three numbers from 1; None: the first three.

        Raises:
            ConfigError: Numbers that cannot be.

        Example:
            >>> Bands.chosen(4, [4, 1, 2]).shown, Bands.chosen(1, None).shown
            ((3, 0, 1), (0, 0, 0))
        """
        if channels is None:
            if shown is not None:
                raise ConfigError(
                    f"data.bands={list(shown)}: chooses bands for pictures, and photos have only "
                    "three. Give data.channels=N too, or leave it out."
                )
            return None
        if channels < 1:
            raise ConfigError(f"data.channels={channels}: out of range. Choose 1 or more.")
        numbers = [min(k, channels) for k in (1, 2, 3)] if shown is None else list(shown)
        if len(numbers) != 3 or not all(1 <= number <= channels for number in numbers):
            raise ConfigError(
                f"data.bands={numbers}: give three numbers from 1 to {channels}, of the bands that "
                "pictures show as red, green and blue."
            )
        return cls(channels, tuple(number - 1 for number in numbers))

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """The bands that :meth:`plain` describes."""
        plain: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def plain(self) -> dict[str, Any]:
        """Numbers, text and lists alone, for files."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def words(self) -> str:
        """For people.

        Example:
            >>> Bands(4, (0, 1, 2), "uint16").words
            '4 bands of uint16'
        """
        return f"{self.channels} bands of {self.values}"

    def picture(self, pixels: Pixels) -> Image:
        """The chosen bands for the eye and for refiners that look at colours.

        Black is two deviations below the mean of a band, white two above. The limits are those of
        the training images, not of one image, so that a step in a picture is the same step in
        every other one: the kernels of the dense CRF are given in steps.

        Args:
            pixels: Float32 [H, W, channels] in the values of the files.

        Returns:
            RGB, uint8 [H, W, 3].

        Example:
            >>> bands = Bands(1, (0, 0, 0), "uint16", (1000.0,), (100.0,))
            >>> bands.picture(np.array([[[700.0], [1000.0], [1100.0]]], np.float32))[..., 0]
            array([[  0, 128, 191]], dtype=uint8)
        """
        chosen = list(self.shown)
        mean = np.asarray(self.mean, np.float32)[chosen]
        deviation = np.asarray(self.deviation, np.float32)[chosen]
        share = (pixels[..., chosen] - mean) / (2 * _REACH * deviation) + np.float32(0.5)
        return np.asarray(np.rint(np.clip(share, 0, 1) * 255), dtype=np.uint8)

    def filled(self, pixels: Pixels) -> Pixels:
        """The pixels with the mean of their band where they have no value (NaN)."""
        return np.where(np.isnan(pixels), np.asarray(self.mean, np.float32), pixels)


@dataclass(frozen=True)
class Moments:
    """Sums over the pixels of one image.

    Attributes:
        pixels: Their number.
        mean: Mean of each band.
        variance: Variance of each band about that mean.
    """

    pixels: int
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, pixels: Pixels) -> Self:
        """Those of an image [H, W, channels]."""
        flat = pixels.reshape(-1, pixels.shape[2])
        return cls(len(flat), flat.mean(0, dtype=np.float64), flat.var(0, dtype=np.float64))


def measured(bands: Bands, values: str, moments: Sequence[Moments]) -> Bands:
    """The bands with the statistics of all training images, each pixel counted once.

    Args:
        bands: What the settings say.
        values: Type of the values in the files.
        moments: Those of each training image, in the order of the list.

    Raises:
        DataError: A band has one value everywhere.

    Example:
        >>> images = [Moments.of(np.full((1, 1, 1), value)) for value in (1.0, 3.0)]
        >>> found = measured(Bands(1, (0, 0, 0)), "uint8", images)
        >>> found.mean, found.deviation
        ((2.0,), (1.0,))
    """
    weights = np.array([one.pixels for one in moments], np.float64)[:, None]
    weights /= weights.sum()
    means = np.stack([one.mean for one in moments])
    mean = (weights * means).sum(0)
    variances = np.stack([one.variance for one in moments]) + (means - mean) ** 2
    deviation = np.sqrt((weights * variances).sum(0))
    flat = [str(band) for band in range(1, bands.channels + 1) if not deviation[band - 1] > 0]
    if flat:
        raise DataError(
            f"band(s) {', '.join(flat)} have one value in all training images, so that nothing can "
            "be learned from them. Correct the files, or leave these bands out of them."
        )
    return replace(
        bands, values=values, mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist())
    )
