"""A trained segmenter with all that it needs to label photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image as Pillow
from PIL import ImageOps
from torch import Tensor

from pipeline.base.arrays import Floats, Image, Pixels
from pipeline.base.errors import ConfigError, DataError
from pipeline.data.band_files import bands_of_array, read_band_header, read_bands
from pipeline.data.bands import Bands
from pipeline.data.datasets import to_tensor
from pipeline.data.headers import MAX_MEGAPIXELS, check_pixels, check_size
from pipeline.data.ids import BAND_SUFFIXES, IMAGE_SUFFIXES, LARGE_SUFFIXES
from pipeline.data.images import read_image
from pipeline.inference.prediction import Prediction
from pipeline.inference.tiles import Tiling, blended
from pipeline.masks.refine import Refinement
from pipeline.networks.device import UNTRIED, exact_products
from pipeline.tasks.predictor import ClassifierPrior, Predictor
from pipeline.tasks.segmenter import SegmenterTask

Photo = Path | str | Pillow.Image | np.ndarray
"""A file, an image of Pillow, or an array: uint8 [H, W, 3] or [H, W]; of bands [H, W, C]."""


@dataclass(frozen=True)
class Passes:
    """How probabilities are made.

    Attributes:
        scales: Scales of the photo; probabilities are averaged over them.
        flip: Average over the mirrored photo too.
        tiling: Predict in overlapping tiles; None: the whole photo at once.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tiling: Tiling | None = None


class Network:
    """A trained segmenter; :func:`pipeline.load` makes it.

    Args:
        segmenter: The trained network.
        passes: How probabilities are made.
        prior: Factors of the classes by which the probabilities are multiplied.
        refine: Aligns the probabilities with the edges in the photo.
        device: Such as ``cpu`` or ``cuda``; ``auto`` takes a GPU if there is one.
        max_megapixels: Larger files are refused before they are decoded.
        source: Where the network comes from, for messages.
        corrected_masks: How many real masks it learned from beside image labels.

    Attributes:
        classes: Names of the classes, without the background.

    Raises:
        ConfigError: This machine has no such device.
    """

    def __init__(
        self,
        segmenter: SegmenterTask,
        passes: Passes | None = None,
        *,
        prior: ClassifierPrior | None = None,
        refine: Refinement | None = None,
        device: str = "auto",
        max_megapixels: float = MAX_MEGAPIXELS,
        source: str = "",
        corrected_masks: int = 0,
    ) -> None:
        self.passes = passes or Passes()
        self.prior = prior
        self.refine = refine
        self.max_megapixels = max_megapixels
        self.source = source
        self.corrected_masks = corrected_masks
        self.device = device_named(device)
        self.classes = tuple(segmenter.classes)
        self._segmenter = segmenter.eval().to(self.device)
        if prior is not None:
            prior.eval().to(self.device)

    def with_passes(self, passes: Passes) -> Self:
        """The same network with other scales, mirroring or tiles."""
        return type(self)(
            self._segmenter, passes, prior=self.prior, refine=self.refine,
            device=str(self.device), max_megapixels=self.max_megapixels, source=self.source,
            corrected_masks=self.corrected_masks,
        )  # fmt: skip

    def weights(self) -> dict[str, Tensor]:
        """The tensors of the network by name."""
        return dict(self._segmenter.network.state_dict())

    def predict(self, photo: Photo) -> Prediction:
        """Labels and probabilities of a photo.

        Args:
            photo: A file, an image of Pillow, or an array uint8 [H, W, 3] (RGB) or [H, W]. Files
                and images of Pillow are turned upright as their EXIF orientation says. For a
                network of bands, a TIFF, PNG or ``.npy`` file, or an array [H, W, C] of the type
                that it learned from.

        Raises:
            DataError: It is not a photo, or does not have the bands that the network learned from.
        """
        if self.bands is not None:
            pixels = self._of_bands(photo, self.bands)
            picture = self.bands.picture(pixels)
        else:
            if isinstance(photo, str | Path):
                check_size(Path(photo), self.max_megapixels, "--megapixels N")
            pixels = picture = as_array(photo)
        return Prediction(self.probabilities(pixels), self.classes, picture)

    def _of_bands(self, photo: Photo, bands: Bands) -> Pixels:
        """The bands of a photo; the mean of a band where it has no value."""
        if isinstance(photo, str | Path):
            header = read_band_header(Path(photo))
            check_pixels(
                Path(photo), header.width, header.height, self.max_megapixels, "--megapixels N"
            )
            return bands.filled(read_bands(Path(photo), bands))
        return bands.filled(bands_of_array(np.asarray(photo), bands))

    @property
    def bands(self) -> Bands | None:
        """What the network sees; None for photos."""
        return self._segmenter.bands

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of the files that it can label."""
        return (*IMAGE_SUFFIXES, *LARGE_SUFFIXES) if self.bands is None else BAND_SUFFIXES

    def predict_batch(self, photos: list[Photo]) -> list[Prediction]:
        """:meth:`predict` for each of several photos, which may differ in size."""
        return [self.predict(photo) for photo in photos]

    def probabilities(self, image: Pixels) -> Floats:
        """Probabilities of background and all classes, float32 [classes + 1, H, W].

        Args:
            image: RGB uint8 [H, W, 3], or bands float32 [H, W, C].
        """
        return self.refined(image, self.unrefined(image))

    def refined(self, image: Pixels, planes: Floats) -> Floats:
        """Probabilities aligned with the edges in the photo, if the network is used like that."""
        return planes if self.refine is None else self.refine(image, [planes])[0]

    def unrefined(self, image: Pixels) -> Floats:
        """Probabilities as the passes leave them, float32 [classes + 1, H, W]."""
        if self.passes.tiling is None:
            return self.whole(image)
        size = (len(self.classes) + 1, *image.shape[:2])
        return blended(image, self.passes.tiling, self.whole, size)

    def whole(self, image: Pixels) -> Floats:
        """Probabilities of a photo, or of a tile, that is predicted at once and not refined."""
        predictor = Predictor(
            self._segmenter, self.passes.scales, flip=self.passes.flip, prior=self.prior
        )
        pixels: Tensor = to_tensor(image)[None].to(self.device)
        with exact_products():
            planes = predictor.predicted(pixels, torch.empty(1, 0))
        return np.asarray(planes.cpu().numpy(), dtype=np.float32)


def as_array(photo: Photo) -> Image:
    """A photo as RGB uint8 [H, W, 3].

    Raises:
        DataError: It is not a photo.

    Example:
        >>> as_array(np.zeros((2, 3), np.uint8)).shape
        (2, 3, 3)
    """
    if isinstance(photo, str | Path):
        return read_image(photo)
    if isinstance(photo, Pillow.Image):
        return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"), dtype=np.uint8)
    array = np.asarray(photo)
    if array.ndim == 2:
        array = array[:, :, None].repeat(3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise DataError(
            f"photo: {array.dtype} {photo.shape}. Pass a path, an image of Pillow, or uint8 "
            "[H, W, 3] in RGB."
        )
    return np.ascontiguousarray(array)


def device_named(name: str) -> torch.device:
    """The device that a person names.

    Raises:
        ConfigError: This machine does not have the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r} is none. Choose auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: {name!r} {UNTRIED} Choose cpu.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {name!r}, but torch sees no GPU. Choose auto or cpu.")
    return device
