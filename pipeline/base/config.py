"""Every setting of a run, with its type, unit and default.

The YAML files in ``configs/`` fill these classes in. A name that is not here, or a word that a
closed choice does not have, is an error before anything runs. Groups whose keys depend on a choice
(a data source, a saliency method, a refinement) are dictionaries with a ``_target_`` that names
what is built from the other keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

PSEUDO, GROUND_TRUTH = "pseudo", "ground_truth"  # words that ``segmenter.labels`` may be


class Command(StrEnum):
    """What a run does: ``stage=NAME``."""

    all = "all"
    masks = "masks"
    classifier = "classifier"
    saliency = "saliency"
    pseudo_labels = "pseudo_labels"
    segmentation = "segmentation"
    relabel = "relabel"
    evaluate = "evaluate"
    report = "report"
    explain = "explain"
    saliency_benchmark = "saliency_benchmark"
    compare = "compare"


class Library(StrEnum):
    """Where a classification network comes from."""

    torchvision = "torchvision"
    timm = "timm"


class Optimizer(StrEnum):
    """SGD with a momentum of 0.9, or AdamW."""

    sgd = "sgd"
    adamw = "adamw"


class MaskedSplit(StrEnum):
    """Images that get maps and masks."""

    train = "train"
    val = "val"


class ScoredSplit(StrEnum):
    """Images that scores are over."""

    val = "val"
    train = "train"
    scored = "scored"


class Plane(StrEnum):
    """Height of the background: its threshold everywhere, or ``(1 - strongest map)^alpha``."""

    constant = "constant"
    power = "power"


class Void(StrEnum):
    """What void pixels of pseudo-masks are in a training."""

    ignored = "ignored"
    background = "background"


class Truth(StrEnum):
    """What saliency maps are scored against."""

    masks = "masks"
    boxes = "boxes"
    none = "none"


class Order(StrEnum):
    """Scores by which ``stage=compare`` sorts; ground truth must not choose a run, so no oracle."""

    classifier = "classifier"
    seed = "seed"
    refined = "refined"
    masks = "masks"
    segmenter = "segmenter"
    fraction = "fraction"  # of the twin
    seconds = "seconds"


class Accelerator(StrEnum):
    """The device; ``auto`` is a GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


Precision = StrEnum(
    "Precision",
    {"auto": "auto", "32-true": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"},
)
"""Lightning's words; ``auto`` is bfloat16 where the hardware multiplies it."""


@dataclass
class ClassifierConfig:
    """The multi-label classifier."""

    library: Library = Library.torchvision
    backbone: str = "mobilenet_v2"  # its name in the library
    weights: str = "none"  # none, download, or the path of a state dict
    middle_layer: str = "backbone.13"  # read by methods whose maps are best from a middle layer
    last_layer: str = "backbone.18"  # read by methods of the CAM family
    freeze_batchnorm: bool = True  # keep running statistics; affine parameters still learn
    freeze_until: str = ""  # first layer that learns, such as backbone.7; "": all layers learn
    size: int = 321  # side of the square training crop and of the squashed validation image, px
    crop_area: tuple[float, float] = (0.4, 1.0)  # area of a random crop, as a share of the image's
    colour_jitter: float = 0.2  # strength of brightness, contrast and saturation changes
    rotation: float = 0.0  # largest random rotation, degrees
    vertical_flip: bool = False  # for images without an up and a down
    epochs: int = 8
    batch_size: int = 16
    optimizer: Optimizer = Optimizer.sgd
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
    # The images that get maps and masks; val shows how good masks are on images that the
    # classifier did not learn from. No segmenter learns from those.
    split: MaskedSplit = MaskedSplit.train
    # Number of scored images that get masks, evenly spaced, to compare masks for less; no segmenter
    # learns from them. None: every image of the split.
    images: int | None = None


@dataclass
class SeedConfig:
    """Saliency maps to label images. Thresholds are shares of a map's maximum, in (0, 1)."""

    # Temperature of the softmax over the classifier's logits by which the classes of an image
    # compete for each place; 0: no competition.
    competition: float = 0.0
    power: float = 0.5  # maps are raised to it first: saliency is heavy-tailed, 0.5 is its root
    threshold: float = 0.5  # of the seed and of the refined mask, which are scored
    foreground: float = 0.5  # training masks: foreground in the mask made at this threshold
    background: float = 0.4  # training masks: background in the mask made at this one; else void
    plane: Plane = Plane.constant


@dataclass
class SegmenterConfig:
    """The segmentation network."""

    arch: str = "deeplabv3plus"  # any architecture of segmentation-models-pytorch
    encoder: str = "mobilenet_v2"  # any encoder of it
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of the architecture
    weights: str = "none"  # of the encoder: none, download, classifier, or a state dict's path
    # What it learns from: pseudo (the run's pseudo-masks), ground_truth (the supervised twin), or
    # the path of a folder with a label image <id>.png for each training image.
    labels: str = PSEUDO
    twin: bool = True  # stage=all also trains the twin where training images have ground truth
    freeze_batchnorm: bool = True  # of the encoder: keep running statistics
    freeze_until: str = ""  # first layer of the encoder that learns; "": all layers learn
    # A callable of logits [B, L, H, W] and labels [B, H, W], and its arguments; void is 255.
    loss: dict[str, Any] = field(
        default_factory=lambda: {"_target_": "pipeline.tasks.losses.CrossEntropy"}
    )
    void: Void = Void.ignored  # of pseudo-masks; void in ground truth is always ignored
    ema: float = 0.0  # decay a step of the running mean of weights; 0: the last weights are kept
    size: int = 321  # side of the square training crop, px
    scale: tuple[float, float] = (0.5, 1.5)  # random scale of the image before the crop
    colour_jitter: float = 0.2
    epochs: int = 10
    batch_size: int = 8
    optimizer: Optimizer = Optimizer.sgd
    learning_rate: float = 0.005  # of the encoder; falls to zero as (1 - t)^0.9
    head_learning_rate: float = 0.05  # of decoder and segmentation head
    weight_decay: float = 1e-4
    warmup: float = 0.0
    gradient_clip: float = 5.0


@dataclass
class RelabelConfig:
    """The segmenter's predictions for the images that it learned from, as masks for another one."""

    scales: list[float] = field(default_factory=lambda: [1.0])  # their probabilities are averaged
    flip: bool = True
    refine: bool = True  # with the settings of ``refine``
    # Void where the segmenter's own probability of the refined label is below this, in [0, 1).
    min_confidence: float = 0.7


@dataclass
class EvaluateConfig:
    """What is scored, and how predictions are made."""

    split: ScoredSplit = ScoredSplit.val
    masks: str | None = None  # a folder of label images to score instead of a segmenter
    checkpoint: str | None = None  # a segmenter to score instead of the run's own
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    refine: bool = False  # refine the averaged probabilities with the settings of ``refine``
    classifier_prior: bool = False  # multiply by the classifier's odds of each class, at most 1
    label_oracle: bool = False  # diagnostic only: predict no class outside the image's label
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
    split: ScoredSplit = ScoredSplit.val
    images: int | None = None  # evenly spaced over the list; None means all
    truth: Truth = Truth.masks
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
    by: Order | None = None  # None: the last of segmenter, refined, seed, classifier that all have
    classes: list[str] | None = None  # every mIoU over background and these; None: all that occur
    pictures: int = 5  # images whose masks are on the page, evenly spaced


@dataclass
class TrainerConfig:
    """Where and how numbers are crunched."""

    accelerator: Accelerator = Accelerator.auto
    devices: int = 1
    precision: Precision = Precision.auto  # of training; everything else is float32
    workers: int = 2  # processes that read images; 0 reads in the main process
    progress: bool = True


@dataclass
class RunConfig:
    """One run of the pipeline."""

    run_dir: str = "runs/shapes"
    random_seed: int = 0
    stage: Command = Command.all
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
