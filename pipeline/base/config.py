"""Every setting of a run, with its type, unit and default.

The YAML files in ``configs/`` override these defaults. An unknown name, or an unknown value of an
enumeration, is an error before anything runs. Groups whose keys depend on the option (data source,
saliency method, refinement) are dictionaries: ``_target_`` names the class or function, the other
keys are its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

PSEUDO, GROUND_TRUTH = "pseudo", "ground_truth"  # values of ``segmenter.labels`` beside a path
CORRECTED = "corrected"  # a key that every group ``data`` has


class Command(StrEnum):
    """What the command does: ``stage=NAME``."""

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
    verify = "verify"
    predict = "predict"


class Library(StrEnum):
    """Library that a classification network comes from."""

    torchvision = "torchvision"
    timm = "timm"


class Optimizer(StrEnum):
    """SGD (momentum 0.9) or AdamW."""

    sgd = "sgd"
    adamw = "adamw"


class MaskedSplit(StrEnum):
    """Images that get maps and masks."""

    train = "train"
    val = "val"


class ScoredSplit(StrEnum):
    """Images that are scored."""

    val = "val"
    train = "train"
    scored = "scored"


class Plane(StrEnum):
    """Background score: the threshold everywhere, or ``(1 - strongest map)^alpha``."""

    constant = "constant"
    power = "power"


class Void(StrEnum):
    """How void pixels of pseudo-masks are treated in training."""

    ignored = "ignored"
    background = "background"


class Truth(StrEnum):
    """Ground truth that saliency maps are scored against."""

    masks = "masks"
    boxes = "boxes"
    none = "none"


class Order(StrEnum):
    """Scores that ``stage=compare`` can sort by.

    Oracle scores are left out: ground truth must not choose a run.
    """

    classifier = "classifier"
    seed = "seed"
    refined = "refined"
    masks = "masks"
    segmenter = "segmenter"
    fraction = "fraction"  # of the twin
    seconds = "seconds"


class Accelerator(StrEnum):
    """The device; ``auto`` means a GPU if torch sees one by CUDA, otherwise the CPU."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


Precision = StrEnum(
    "Precision",
    {"auto": "auto", "32-true": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"},
)
"""Lightning's names; ``auto`` means bfloat16 if the hardware has instructions for it."""


@dataclass
class ClassifierConfig:
    """The multi-label classifier."""

    library: Library = Library.torchvision
    backbone: str = "mobilenet_v2"  # its name in the library
    weights: str = "none"  # none, download, or the path of a state dict
    middle_layer: str = "backbone.13"  # read by methods that work best at a middle layer
    last_layer: str = "backbone.18"  # read by the CAM family
    freeze_batchnorm: bool = True  # keep running statistics; affine parameters still learn
    freeze_until: str = ""  # first layer that learns, such as backbone.7; "": all layers learn
    # Of red, green and blue in [0, 1], subtracted and divided by; None: what the library's record
    # says of the network.
    mean: list[float] | None = None
    deviation: list[float] | None = None
    size: int = 321  # side of the training crop and of the resized validation image, px
    crop_area: tuple[float, float] = (0.4, 1.0)  # area of the random crop as a share of the image
    colour_jitter: float = 0.2  # strength of brightness, contrast and saturation changes
    rotation: float = 0.0  # largest random rotation, degrees
    vertical_flip: bool = False  # for images without a natural orientation
    epochs: int = 8
    min_steps: int = 0  # with few images, as many epochs more as it takes to get to these steps
    batch_size: int = 16
    optimizer: Optimizer = Optimizer.sgd
    learning_rate: float = 0.002  # of the backbone; decays to zero as (1 - t)^0.9
    head_learning_rate: float = 0.05
    weight_decay: float = 1e-4
    warmup: float = 0.0  # share of the steps over which the learning rate rises from zero
    gradient_clip: float = 5.0  # largest gradient norm


@dataclass
class SaliencyConfig:
    """How saliency maps are computed."""

    method: dict[str, Any] = field(default_factory=dict)  # _target_ and options of a tsgb method
    size: int = 321  # longer side of the image at scale 1, px; sides are rounded to 32 k + 1
    scales: list[float] = field(default_factory=lambda: [1.0])  # maps are averaged over them
    flip: bool = False  # average over the mirrored image too, at every scale
    # Images that get maps and masks. val measures masks on images that the classifier has not
    # seen; no segmenter is trained on those.
    split: MaskedSplit = MaskedSplit.train
    # Limits maps and masks to this many scored images, evenly spaced, for a cheap comparison; no
    # segmenter is trained on those. None: every image of the split.
    images: int | None = None
    # Whether maps stay once the masks were made of them and scored; false saves their space.
    keep: bool = True


@dataclass
class SeedConfig:
    """How saliency maps become masks. Thresholds are shares of a map's maximum, in (0, 1)."""

    # Temperature of the softmax over the classifier's logits with which the classes of an image
    # compete for each location; 0: no competition.
    competition: float = 0.0
    power: float = 0.5  # applied to the maps first; 0.5 is the square root (maps are heavy-tailed)
    threshold: float = 0.5  # of the seed and of the refined mask, the two that are scored
    foreground: float = 0.5  # training mask: foreground is what this threshold labels foreground
    background: float = 0.4  # training mask: background is what this one labels background
    plane: Plane = Plane.constant


@dataclass
class SegmenterConfig:
    """The segmenter: the segmentation network that learns from the masks."""

    arch: str = "deeplabv3plus"  # any architecture of segmentation-models-pytorch
    encoder: str = "mobilenet_v2"  # any of its encoders
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of the architecture
    weights: str = "none"  # of the encoder: none, download, classifier, or path of a state dict
    # Training masks: pseudo (the run's pseudo-masks), ground_truth (the supervised twin), or the
    # path of a folder with a label image <id>.png for each training image.
    labels: str = PSEUDO
    twin: bool = True  # stage=all also trains the twin if the training images have ground truth
    freeze_batchnorm: bool = True  # of the encoder: keep running statistics
    freeze_until: str = ""  # first layer of the encoder that learns; "": all layers learn
    # As for the classifier; None: what the library's record says of the encoder, or with
    # weights=classifier those of the classifier.
    mean: list[float] | None = None
    deviation: list[float] | None = None
    # A callable of logits [B, L, H, W] and labels [B, H, W], and its arguments; void is 255.
    loss: dict[str, Any] = field(
        default_factory=lambda: {"_target_": "pipeline.tasks.losses.CrossEntropy"}
    )
    void: Void = Void.ignored  # of pseudo-masks; void in real masks is always ignored
    # How many times an epoch shows an image with a corrected mask; None: so often that a quarter of
    # the images it shows have one, at most ten times.
    corrected_repeats: int | None = None
    ema: float = 0.0  # decay per step of the moving average of the weights; 0: no average
    size: int = 321  # side of the training crop, px
    scale: tuple[float, float] = (0.5, 1.5)  # random scale of the image before the crop
    colour_jitter: float = 0.2
    epochs: int = 10
    min_steps: int = 0  # as for the classifier
    batch_size: int = 8
    optimizer: Optimizer = Optimizer.sgd
    learning_rate: float = 0.005  # of the encoder; decays to zero as (1 - t)^0.9
    head_learning_rate: float = 0.05  # of decoder and segmentation head
    weight_decay: float = 1e-4
    warmup: float = 0.0
    gradient_clip: float = 5.0


@dataclass
class RelabelConfig:
    """The segmenter's predictions on its own training images, as masks for another segmenter."""

    scales: list[float] = field(default_factory=lambda: [1.0])  # probabilities are averaged
    flip: bool = True
    refine: bool = True  # with the settings of ``refine``
    # Void where the segmenter's own probability of the refined label is below this, in [0, 1).
    min_confidence: float = 0.7


@dataclass
class EvaluateConfig:
    """What is scored, and how predictions are made."""

    split: ScoredSplit = ScoredSplit.val
    masks: str | None = None  # folder of label images to score instead of a segmenter
    checkpoint: str | None = None  # segmenter to score instead of the run's own
    scales: list[float] = field(default_factory=lambda: [1.0])  # probabilities are averaged
    flip: bool = False
    refine: bool = False  # refine the averaged probabilities with the settings of ``refine``
    classifier_prior: bool = False  # multiply by the classifier's odds of each class, at most 1
    label_oracle: bool = False  # diagnostic only: restrict predictions to the image's true labels
    export: bool = False  # also write the layout of the VOC evaluation server
    classes: list[str] | None = None  # subset whose mean IoU is reported as well


@dataclass
class PredictConfig:
    """Label images of new photos; how they are made is what ``evaluate`` says."""

    images: Any = None  # a file, a folder, a .txt list of paths, or several of these
    out: str | None = None  # folder of the results; None: <run>/predict/<name of the first>
    overlay: bool = False  # also pictures of the labels over the photo
    probabilities: bool = False  # also 16-bit images of each class
    confidence: bool = False  # also 16-bit images of the probability of the chosen label
    tile: int | None = None  # side of overlapping tiles, px, a multiple of 32; None: whole photos
    overlap: float = 0.25  # share of a tile


@dataclass
class ExplainConfig:
    """One picture of the maps of some classes of one image."""

    image: str | None = None
    classes: list[str] | None = None  # names, parts of them or indices; None: the 3 most probable
    checkpoint: str | None = None  # classifier; None: the run's own
    model: str | None = None  # instead: torchvision/NAME or timm/NAME with its own weights
    model_weights: str = "download"  # of ``model``: download, none, or path of a state dict
    output: str | None = None  # path of the picture; None: <run>/explain/<image>.png


@dataclass
class BenchmarkConfig:
    """Saliency methods compared on one classifier."""

    methods: list[str] = field(  # files in configs/saliency without .yaml, or paths of .yaml files
        default_factory=lambda: ["tsgb", "grad_cam", "cam"]
    )
    split: ScoredSplit = ScoredSplit.val
    images: int | None = None  # number of images, evenly spaced over the split; None: all
    truth: Truth = Truth.masks
    annotations: str | None = None  # folder of VOC XML files; None: Annotations beside the images
    threshold: float = 0.2  # share of a map's maximum from which it counts as object, in (0, 1]
    faithfulness_images: int = 30  # images for the metrics that need more maps; evenly spaced
    steps: int = 28  # of deletion and insertion; each costs a forward pass
    sensitivity_samples: int = 10  # changed images of max-sensitivity, each a call; 0: none
    mosaics: bool = True  # grid pointing game in 2 x 2 images, with four times the memory
    memory: bool = True  # measure peak memory, on three images
    pictures: int = 6  # images whose maps are shown on the page, evenly spaced
    size: int | None = None  # longer side of the image, px; None: the network's training size
    checkpoint: str | None = None  # classifier; None: the run's own
    model: str | None = None  # instead: torchvision/NAME or timm/NAME with its own classes
    model_weights: str = "download"  # of ``model``: download, none, or path of a state dict
    # For ``model``: the indices of its classes that make up each class of the data, 7 or 151-268.
    class_map: Any = None


@dataclass
class CompareConfig:
    """Comparison of finished runs."""

    runs: list[str] | None = None  # folders of runs; None: run_dir
    by: Order | None = None  # None: the last of segmenter, refined, seed, classifier that all have
    classes: list[str] | None = None  # mIoU over background and these; None: all that occur
    pictures: int = 200  # images of each split that are shown on the page, evenly spaced


@dataclass
class TrainerConfig:
    """Hardware and precision."""

    accelerator: Accelerator = Accelerator.auto
    devices: int = 1  # processes that a plain command starts; torchrun and srun decide themselves
    precision: Precision = Precision.auto  # of training; everything else is float32
    # Processes that load images, and threads that make masks; 0: load in the main process; None: as
    # many as this process has cores beside a GPU, up to 8, otherwise 2.
    workers: int | None = None
    progress: bool = True


@dataclass
class RunConfig:
    """One run of the pipeline."""

    run_dir: str = "runs/shapes"
    random_seed: int = 0
    stage: Command = Command.all
    # `corrected`, of every source: file or folder of real masks of some training images, which
    # replace pseudo-masks; None: none. The other keys are those of the source.
    data: dict[str, Any] = field(default_factory=lambda: {CORRECTED: None})
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    seed: SeedConfig = field(default_factory=SeedConfig)
    refine: dict[str, Any] = field(default_factory=dict)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    relabel: RelabelConfig = field(default_factory=RelabelConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=dict)
