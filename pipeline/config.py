"""Every setting of a run, with its type, unit and default.

The YAML files in ``configs/`` fill these classes in; a name that is not here is an error before
anything runs. Groups whose keys depend on a choice (a data source, a saliency method, a refinement)
are dictionaries with a ``_target_`` that names what is built from the other keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ClassifierConfig:
    """The multi-label classifier."""

    library: str = "torchvision"  # where the backbone comes from: torchvision or timm
    backbone: str = "mobilenet_v2"  # its name there
    weights: str = "none"  # none, download, or the path of a state dict
    middle_layer: str = "backbone.13"  # read by methods whose maps are best from a middle layer
    last_layer: str = "backbone.18"  # read by methods of the CAM family
    # Pixels of the image for one of the last feature map, 8 or 16 in place of 32: strides become
    # dilations, with the same weights. None leaves the network as the library has it.
    output_stride: int | None = None
    freeze_batchnorm: bool = True  # keep running statistics; affine parameters still learn
    freeze_until: str = ""  # layer, as backbone.7, before which nothing is learned; "" for none
    size: int = 321  # side of the square training crop and of the squashed validation image, px
    crop_area: tuple[float, float] = (0.4, 1.0)  # of the image, of a random crop
    colour_jitter: float = 0.2  # strength of brightness, contrast and saturation changes
    rotation: float = 0.0  # largest random rotation, degrees
    vertical_flip: bool = False  # for images without an up and a down
    epochs: int = 8
    batch_size: int = 16
    consistency: float = 0.0  # weight of the distance between class maps of a crop and at half size
    optimizer: str = "sgd"  # sgd (momentum 0.9) or adamw
    learning_rate: float = 0.002  # of the backbone; falls to zero as (1 - t)^0.9
    head_learning_rate: float = 0.05
    weight_decay: float = 1e-4
    warmup: float = 0.0  # share of the steps over which the rate rises from zero
    gradient_clip: float = 5.0  # norm


@dataclass
class SaliencyConfig:
    """Images to saliency maps."""

    method: dict[str, Any] = field(default_factory=dict)  # _target_ and options of a tsgb method
    size: int = 321  # longer side of the image at scale 1, px; sides are rounded to 32 k + 1
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False  # also the mirrored image, at every scale
    normalise: str = "class"  # maps by their own maximum, or by that of the image's classes: image
    # Images that get maps and masks: train, or val to see how good masks are on images that the
    # classifier did not learn from. No network learns from those.
    split: str = "train"
    # Explain only so many images of those that masks are scored on, evenly spaced, to compare
    # masks for less; no network learns from so few. None means every image of the split.
    images: int | None = None


@dataclass
class SeedConfig:
    """Saliency maps to label images. The levels are shares of a map's maximum, in (0, 1)."""

    # Temperature at which the classes of an image compete for its places by the classifier's
    # logits there; 0: they do not.
    competition: float = 0.0
    # Of the strongest map of the image's other classes, taken off each map first, from 0 to 1.
    subtract_others: float = 0.0
    power: float = 0.5  # maps are raised to it first: saliency is heavy-tailed, 0.5 is its root
    threshold: float = 0.5  # background level of the seed and of the refined mask that are scored
    foreground: float = 0.5  # foreground where the mask made at this level says so
    background: float = 0.4  # background where the mask made at this level says so; else void
    plane: str = "constant"  # of the background: constant, or power, (1 - strongest map)^alpha


@dataclass
class SegmenterConfig:
    """The segmentation network."""

    arch: str = "deeplabv3plus"  # any architecture of segmentation-models-pytorch
    encoder: str = "mobilenet_v2"  # any encoder of it
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of the architecture
    weights: str = "none"  # of the encoder: none, download, classifier, or a state dict's path
    labels: str = "pseudo"  # what it learns from: pseudo or ground_truth (the supervised twin)
    # Networks trained one after the other by the same recipe; from the second on, each learns from
    # what the one before says of the training images (stage=relabel). The twin has one.
    rounds: int = 1
    twin: bool = True  # stage=all also trains the twin where training images have ground truth
    freeze_batchnorm: bool = True  # of the encoder: keep running statistics
    freeze_until: str = ""  # layer of the encoder before which nothing is learned; "" for none
    loss: str = "cross_entropy"  # or balanced, bootstrapped, generalised; see pipeline/tasks/losses
    hard_share: float = 0.25  # of the pixels, those with the greatest loss, teach if bootstrapped
    void: str = "ignored"  # pixels of pseudo-masks that are not sure: ignored, or background
    ema: float = 0.0  # decay by step of the mean of weights that is the result; 0: the last weights
    size: int = 321  # side of the square training crop, px
    scale: tuple[float, float] = (0.5, 1.5)  # random scale of the image before the crop
    colour_jitter: float = 0.2
    epochs: int = 10
    batch_size: int = 8
    optimizer: str = "sgd"  # sgd (momentum 0.9) or adamw
    learning_rate: float = 0.005  # of the encoder; falls to zero as (1 - t)^0.9
    head_learning_rate: float = 0.05  # of decoder and segmentation head
    weight_decay: float = 1e-4
    warmup: float = 0.0
    gradient_clip: float = 5.0


@dataclass
class RelabelConfig:
    """A network's predictions for the images that it learned from, as masks of the next round."""

    scales: list[float] = field(default_factory=lambda: [1.0])  # their probabilities are averaged
    flip: bool = True
    refine: bool = True  # with the settings of ``refine``
    # Void where the network itself, before refinement, gives the refined label less than this.
    certain: float = 0.7


@dataclass
class EvaluateConfig:
    """What is scored, and how predictions are made."""

    split: str = "val"  # val, train or scored
    masks: str | None = None  # a folder of label images to score instead of a network
    checkpoint: str | None = None  # a network to score instead of the run's own
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    crf: bool = False  # refine the averaged probabilities with the settings of ``refine``
    classifier_prior: bool = False  # times the odds, at most 1, that the class is there
    names_given: bool = False  # only classes of an image's label: what naming costs, no result
    export: bool = False  # also write the layout of the VOC evaluation server
    classes: list[str] | None = None  # classes whose mean is reported beside the mean over all


@dataclass
class ExplainConfig:
    """One image, some classes, one picture."""

    image: str | None = None
    classes: list[str] | None = None  # names, parts of them or indices; None: the 3 most probable
    checkpoint: str | None = None  # a classifier; None means the run's own
    model: str | None = None  # instead: torchvision/NAME or timm/NAME with its own weights
    model_weights: str = "download"  # of ``model``: download, none, or the path of a state dict
    output: str | None = None  # picture; None means <run>/explain/<image>.png


@dataclass
class BenchmarkConfig:
    """Saliency methods side by side, under one classifier."""

    methods: list[str] = field(  # files in configs/saliency without .yaml, or paths of .yaml files
        default_factory=lambda: ["tsgb", "grad_cam", "cam"]
    )
    split: str = "val"  # val, train or scored
    images: int | None = None  # evenly spaced over the list; None means all
    truth: str = "masks"  # what maps are scored against: masks, boxes or none
    annotations: str | None = None  # VOC XML files with boxes; None: Annotations beside the images
    threshold: float = 0.2  # share of a map's maximum from which it counts as the object, in (0, 1]
    faithfulness_images: int = 30  # evenly spaced, for deletion and insertion; 0 for neither
    steps: int = 28  # in which pixels are deleted or inserted; each costs a forward pass
    memory: bool = True  # measure it, on three images
    pictures: int = 6  # images whose maps are on the page, evenly spaced
    size: int | None = None  # longer side of the image, px; None: what the network was trained on
    checkpoint: str | None = None  # a classifier; None means the run's own
    model: str | None = None  # instead: torchvision/NAME or timm/NAME with its own classes
    model_weights: str = "download"  # of ``model``: download, none, or the path of a state dict
    # For ``model``, the indices of its classes that each class of the data is: 7 or 151-268.
    class_map: Any = None


@dataclass
class CompareConfig:
    """Finished runs side by side."""

    runs: list[str] | None = None  # folders of runs; None means run_dir
    # Sorted by classifier, seed, refined, masks, network, fraction (of the twin) or seconds.
    by: str | None = None  # None: the last of network, refined, seed, classifier that all have
    classes: list[str] | None = None  # every mIoU over background and these; None: all that occur
    pictures: int = 5  # images whose masks are on the page, evenly spaced


@dataclass
class TrainerConfig:
    """Where and how numbers are crunched."""

    accelerator: str = "auto"  # auto, cpu or gpu
    devices: int = 1
    precision: str = "auto"  # of training: auto, 32-true, bf16-mixed or 16-mixed
    workers: int = 2  # processes that read images; 0 reads in the main process
    progress: bool = True


@dataclass
class RunConfig:
    """One run of the pipeline."""

    run_dir: str = "runs/shapes"
    random_seed: int = 0
    stage: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    seed: SeedConfig = field(default_factory=SeedConfig)
    refine: dict[str, Any] = field(default_factory=dict)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
