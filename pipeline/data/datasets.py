"""Torch data sets over a split, with their augmentation.

Augmentation is seeded with random seed, epoch and index, so that a result depends neither on the
number of workers nor on whether the run was killed and resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import albumentations as albu
import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler

from pipeline.base.arrays import LabelImage, Pixels
from pipeline.base.errors import DataError
from pipeline.base.ranks import here
from pipeline.data.bands import Bands
from pipeline.data.catalogue import VOID, Item
from pipeline.data.pixels import read_pixels


def to_tensor(image: Pixels) -> Tensor:
    """An array [H, W, C] as a tensor [C, H, W] of the same type."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Base of the training sets: the key (epoch, index) determines the augmentation."""

    def __init__(self, items: Sequence[Item], transform: albu.Compose, random_seed: int) -> None:
        self.items = items
        self.transform = transform
        self.random_seed = random_seed

    def __len__(self) -> int:
        return len(self.items)

    def _augment(self, key: tuple[int, int], **arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        entropy = np.random.SeedSequence([self.random_seed, *key])
        self.transform.set_random_seed(int(entropy.generate_state(1)[0]))
        return dict(self.transform(**arrays))


class LabelledImages(Augmented):
    """Augmented images with a 0/1 class vector: ``(pixels [C, H, W], float [classes])``."""

    def __init__(
        self, items: Sequence[Item], transform: albu.Compose, random_seed: int, classes: int
    ) -> None:
        super().__init__(items, transform, random_seed)
        self.classes = classes

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        item = self.items[key[1]]
        image = self._augment(key, image=read_pixels(item))["image"]
        return to_tensor(image), one_hot(item, self.classes)


class MaskedImages(Augmented):
    """Augmented images with their label images: ``(pixels [C, H, W], uint8 [H, W])``.

    Args:
        read_labels: Reads the label image of an image.
        classes: Number of classes without the background.

    Raises:
        DataError: An item has a label image with a value that is no class. On a GPU the loss of
            such a batch would end the process without saying why.
    """

    def __init__(
        self,
        items: Sequence[Item],
        transform: albu.Compose,
        random_seed: int,
        read_labels: Callable[[Item], LabelImage],
        classes: int,
    ) -> None:
        super().__init__(items, transform, random_seed)
        self.read_labels = read_labels
        self.classes = classes

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        item = self.items[key[1]]
        labels = self.read_labels(item)
        _check_values(item, labels, self.classes)
        arrays = self._augment(key, image=read_pixels(item), mask=labels)
        return to_tensor(arrays["image"]), torch.from_numpy(arrays["mask"])


def _check_values(item: Item, labels: LabelImage, classes: int) -> None:
    wrong = np.unique(labels[(labels > classes) & (labels != VOID)])
    if wrong.size:
        raise DataError(
            f"{item.id}: its label image contains the value(s) {', '.join(map(str, wrong))}; "
            f"allowed are 0..{classes} and {VOID}. It has changed since the data were checked: "
            "put the right file back and run the same command again."
        )


class TargetedImages(Dataset[tuple[Tensor, Tensor, str]]):
    """Images without augmentation, class indices, ids: ``(pixels [C, H, W], int64 [K], id)``.

    An unreadable image has no pixels, [3, 0, 0], so that a stage can report it and go on.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str]:
        item = self.items[index]
        targets = torch.tensor(item.labels, dtype=torch.int64)
        try:
            return to_tensor(read_pixels(item)), targets, item.id
        except DataError:
            return torch.zeros(3, 0, 0, dtype=torch.uint8), targets, item.id


class EpochSampler(DistributedSampler[Any]):
    """Keys (epoch, index) in an order given by random seed and epoch.

    Lightning sets the epoch, also after a resume.
    """

    def __init__(self, dataset: Augmented) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, seed=dataset.random_seed)

    def __iter__(self) -> Iterator[Any]:
        yield from zip(repeat(self.epoch), super().__iter__(), strict=False)


class SharedBatches(BatchSampler):
    """The share of one process in every whole batch, so that batches are those of one process.

    Example:
        >>> list(SharedBatches([3, 1, 4, 1, 5], 5, rank=1, size=2))
        [[1, 1]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, rank: int, size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=True)
        self.rank = rank
        self.size = size

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in super().__iter__():
            yield batch[self.rank :: self.size]


class EpochData(pl.LightningDataModule):
    """Shuffled training batches, augmented anew in every epoch, and the same in every run.

    Args:
        dataset: The images.
        batch_size: Images in one step, of all processes together.
        workers: Processes that load images, for each process that trains.
        pinned: Load into memory that a GPU copies from while it computes.
    """

    def __init__(
        self, dataset: Augmented, batch_size: int, workers: int, *, pinned: bool = False
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.loading = loading(workers, pinned=pinned)

    def train_dataloader(self) -> DataLoader[Any]:
        """This process's share of whole batches, loaded by workers that persist over the epochs."""
        sampler, place = EpochSampler(self.dataset), here()
        batch_size = min(self.batch_size, len(sampler))
        return DataLoader(
            self.dataset,
            batch_sampler=SharedBatches(sampler, batch_size, place.rank, place.size),
            persistent_workers=self.loading["num_workers"] > 0,
            **self.loading,
        )


class Squashed(Dataset[tuple[Tensor, Tensor]]):
    """Whole images resized to squares of ``size`` px, with a 0/1 class vector, in order."""

    def __init__(self, items: Sequence[Item], size: int, classes: int) -> None:
        self.items = items
        self.size = size
        self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        item = self.items[index]
        image = cv2.resize(read_pixels(item), (self.size, self.size))
        return to_tensor(image.reshape(self.size, self.size, -1)), one_hot(item, self.classes)


def one_hot(item: Item, classes: int) -> Tensor:
    """The image labels as a 0/1 vector [classes]."""
    labels = torch.zeros(classes)
    labels[list(item.labels)] = 1.0
    return labels


def loading(workers: int, *, pinned: bool) -> dict[str, Any]:
    """What the loaders of this project have in common, as arguments of ``DataLoader``.

    Args:
        workers: Processes that load images; 0: the main process does.
        pinned: Load into memory that a GPU copies from while it computes.
    """
    return {"num_workers": workers, "pin_memory": pinned, "worker_init_fn": single_threaded}


def single_threaded(_worker: int) -> None:
    """Restrict OpenCV to one thread in a worker process: the network needs the cores."""
    cv2.setNumThreads(0)


def classifier_transform(
    size: int,
    area: tuple[float, float],
    jitter: float,
    rotation: float,
    *,
    vertical_flip: bool,
    bands: Bands | None = None,
) -> albu.Compose:
    """Random rotation, crop, flip and colour jitter for the classifier; ``size`` in px."""
    steps: list[Callable[..., Any]] = []
    if rotation > 0:
        steps.append(albu.Rotate(limit=rotation, border_mode=2, p=0.8))
    steps += [
        albu.RandomResizedCrop(size=(size, size), scale=tuple(area)),
        albu.HorizontalFlip(),
        albu.VerticalFlip(p=0.5 if vertical_flip else 0.0),
        _jitter(jitter, bands),
    ]
    return albu.Compose(steps)


def segmenter_transform(
    size: int,
    scale: tuple[float, float],
    jitter: float,
    mean: Sequence[float],
    bands: Bands | None = None,
) -> albu.Compose:
    """Random scale, crop, flip and colour jitter; outside the image is the mean colour, void."""
    limits = (scale[0] - 1, scale[1] - 1)  # albumentations adds 1 to the limits
    return albu.Compose(
        [
            albu.RandomScale(scale_limit=limits, p=1.0),
            _padding(size, mean, bands),
            albu.RandomCrop(size, size),
            albu.HorizontalFlip(),
            _jitter(jitter, bands),
        ]
    )


def _padding(size: int, mean: Sequence[float], bands: Bands | None) -> albu.PadIfNeeded:
    if bands is not None:
        return _BandPadding(size, bands)
    fill = tuple(round(255 * value) for value in mean)
    return albu.PadIfNeeded(size, size, border_mode=0, fill=fill, fill_mask=255)


class _BandPadding(albu.PadIfNeeded):  # type: ignore[misc]  # albumentations is not typed
    """Pads with the mean of each band; OpenCV takes a fill of four values at most."""

    def __init__(self, size: int, bands: Bands) -> None:
        super().__init__(size, size, border_mode=0, fill=0, fill_mask=255)
        self.mean = np.asarray(bands.mean, np.float32)

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        padded: Pixels = super().apply(img - self.mean, **params)
        return padded + self.mean


class BandJitter(albu.ImageOnlyTransform):  # type: ignore[misc]  # likewise
    """Random contrast and brightness of measured bands, which have no hue.

    Contrast changes by up to the share ``strength``, brightness by as many deviations of a band;
    all bands change together, so that their ratios stay.

    Args:
        strength: ``colour_jitter`` of the settings.
        bands: With the statistics of the data.
    """

    def __init__(self, strength: float, bands: Bands) -> None:
        super().__init__(p=0.8)
        self.strength = strength
        self.mean = np.asarray(bands.mean, np.float32)
        self.deviation = np.asarray(bands.deviation, np.float32)

    def get_params(self) -> dict[str, float]:
        """One draw of both."""
        draw = self.py_random.uniform
        return {name: draw(-self.strength, self.strength) for name in ("contrast", "brightness")}

    def apply(self, img: Pixels, contrast: float, brightness: float, **_: Any) -> Pixels:
        """The pixels [H, W, C], changed."""
        changed = (img - self.mean) * (1 + contrast) + self.mean + brightness * self.deviation
        return changed.astype(np.float32)


def _jitter(jitter: float, bands: Bands | None) -> albu.ImageOnlyTransform:
    return _colour_jitter(jitter) if bands is None else BandJitter(jitter, bands)


def _colour_jitter(jitter: float) -> albu.ColorJitter:
    span = (1 - jitter, 1 + jitter)
    return albu.ColorJitter(span, span, span, hue=(-jitter / 10, jitter / 10), p=0.8)
