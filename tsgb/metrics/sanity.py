"""Do the maps depend on what the model has learned? Maps before and after randomisation."""

import copy
import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from tsgb.errors import LayerError, ShapeError, UnsupportedModelError
from tsgb.metrics._checks import check_positive, check_same_shape, checked_values

Attribute = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Similarity(NamedTuple):
    """Rank correlations of two sets of maps, one number for each pair of maps.

    Attributes:
        signed: Of the maps as they are.
        absolute: Of their absolute values.
    """

    signed: Tensor
    absolute: Tensor


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlation of the two maps of each pair.

    Equal values share the mean of their ranks. A constant map correlates with nothing: 0.

    Args:
        first: Maps, [..., H, W].
        second: Maps of the same shape.

    Returns:
        One number per pair, [...], in [-1, 1].

    Raises:
        NonFiniteError: A map holds NaN or infinity.
        ShapeError: The shapes differ or have fewer than two dimensions. Resize the maps.

    References:
        Spearman, "The Proof and Measurement of Association between Two Things", 1904.

    Example:
        >>> import torch
        >>> first = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        >>> spearman(first, first.exp()), spearman(first, -first), spearman(first, 0 * first)
        (tensor([1.]), tensor([-1.]), tensor([0.]))
    """
    check_same_shape("spearman", ("first", "second"), first, second)
    if first.dim() < 2 or first.is_complex() or second.is_complex():
        raise ShapeError(
            f"spearman: first is {tuple(first.shape)} of {first.dtype}. There are no rows and "
            "columns to rank. Pass real maps [..., H, W]; for plain lists use values[:, None]."
        )
    one = _centred_ranks(checked_values("spearman", "first", first))
    other = _centred_ranks(checked_values("spearman", "second", second))
    scale = (one.square().sum(-1) * other.square().sum(-1)).sqrt()
    correlation = (one * other).sum(-1) / torch.where(scale > 0, scale, 1.0)
    return correlation.clamp(-1, 1)


def label_randomisation(maps_true: Tensor, maps_random: Tensor) -> Similarity:
    """Rank correlation of the maps of two models, one trained on true labels, one on permuted.

    The other half of the sanity check: both models have the same architecture and training, but
    the labels of one were shuffled, so it has memorised images instead of recognising objects.
    A method whose maps stay much the same does not show what the model has learned.

    Args:
        maps_true: Maps of the model trained on true labels, [..., H, W].
        maps_random: Maps of the model trained on permuted labels, for the same images and targets.

    Returns:
        One signed and one absolute correlation per pair of maps, [...]; near 0 is good.

    Raises:
        NonFiniteError: A map holds NaN or infinity.
        ShapeError: The shapes differ. Resize the maps.

    References:
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018 (data randomization test).

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[1.0, -2.0], [3.0, -4.0]]])
        >>> label_randomisation(maps, -maps)
        Similarity(signed=tensor([-1.]), absolute=tensor([1.]))
    """
    check_same_shape("label_randomisation", ("maps_true", "maps_random"), maps_true, maps_random)
    return _similarity(maps_true, maps_random)


def cascading_randomisation(
    model: nn.Module,
    attribute: Attribute,
    images: Tensor,
    targets: Tensor,
    random_seed: int = 0,
    *,
    layers: Sequence[str] | None = None,
) -> dict[str, Similarity]:
    """Rank correlation of the maps with the original ones while the model forgets layer by layer.

    Layers are re-initialised by their own ``reset_parameters()``, one after the other from the
    last to the first, and stay so. Everything happens on a copy: the model, the global random
    state and the gradients are left as they were. Batch norms go back to the identity, so a
    method that only depends on them will not change there.

    Args:
        model: The network that is explained.
        attribute: From a model, images and targets to maps [B, H, W] or [B, K, H, W], such as
            ``lambda model, images, targets: TSGB(model).attribute(images, targets)``.
        images: Passed on to ``attribute``.
        targets: Passed on to ``attribute``. A map that is constant correlates with 0.
        random_seed: Seed of the new weights, which are the same on every device.
        layers: Names of the layers in the order in which they are randomised. None takes all that
            have ``reset_parameters()`` and something to reset, the last defined one first; name
            them if the model does not define its layers in the order in which it runs them.

    Returns:
        For each layer, in the order of randomisation, the correlations [B] or [B, K] of the
        original maps with those after this layer and all before it were randomised.

    Raises:
        LayerError: One of ``layers`` is not there or has no ``reset_parameters()``.
        NonFiniteError: A map holds NaN or infinity.
        UnsupportedModelError: A module holds parameters that nothing would re-initialise, or
            computes its weight from others (weight norm, spectral norm, pruning).

    References:
        Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018 (cascading randomization).
        Hedstroem et al., "Sanity Checks Revisited", NeurIPS 2023 workshop XAI in Action (smooth
        MPRT): the same with maps that are means over noisy images, which is an ``attribute`` that
        calls ``tsgb.SmoothGrad(model, base=tsgb.GradCAM)``; the authors randomise from the first
        layer to the last: reverse ``layers``.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3))
        >>> maps = lambda model, images, targets: model(images)[:, 0].detach()
        >>> list(cascading_randomisation(model, maps, torch.rand(1, 3, 9, 9), torch.tensor([0])))
        ['1', '0']
    """
    with torch.inference_mode(False):
        names = _resettable(model) if layers is None else _named(model, layers)
        forgetful = copy.deepcopy(model)
        original = attribute(forgetful, images, targets)
        found = {}
        for position, name in enumerate(names):
            _reinitialise(forgetful.get_submodule(name), random_seed + position)
            found[name] = _similarity(original, attribute(forgetful, images, targets))
        return found


def randomised(
    model: nn.Module, random_seed: int = 0, *, layers: Sequence[str] | None = None
) -> nn.Module:
    """A copy of the model that has learned nothing.

    The weights are those at the end of :func:`cascading_randomisation` with the same seed.

    Args:
        model: It is left as it was.
        random_seed: Seed of the new weights, which are the same on every device.
        layers: Names of the layers to randomise; None for all.

    Returns:
        The copy.

    Raises:
        LayerError: One of ``layers`` is not there or has no ``reset_parameters()``.
        UnsupportedModelError: As in :func:`cascading_randomisation`.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2))
        >>> torch.equal(model[0].weight, randomised(model)[0].weight)
        False
    """
    with torch.inference_mode(False):
        names = _resettable(model) if layers is None else _named(model, layers)
        forgetful = copy.deepcopy(model)
        for position, name in enumerate(names):
            _reinitialise(forgetful.get_submodule(name), random_seed + position)
    return forgetful


def complexity_rise(maps: Tensor, maps_random: Tensor, bins: int = 100) -> Tensor:
    """Relative rise of the entropy of maps when the model is randomised (efficient MPRT).

    ``(H(random) - H(trained)) / H(trained)`` with :func:`histogram_entropy`. No maps are compared
    with each other, which noise alone would make dissimilar: the idea is that a method which shows
    what the model has learned draws a less ordered map of a model that knows nothing.

    Args:
        maps: Maps of the trained model, [..., H, W].
        maps_random: Those of the :func:`randomised` model, for the same images and targets.
        bins: Number of bins of the histograms.

    Returns:
        One rise per pair of maps, [...], at least -1; higher is better, and 0 for a method that
        does not look at the weights. It is also 0 where the trained model's map is constant.

    Raises:
        NonFiniteError: A map holds NaN or infinity.
        ShapeError: The shapes differ. Resize the maps.
        ValueError: ``bins`` is not at least 1.

    References:
        Hedstroem et al., "Sanity Checks Revisited: An Exploration to Repair the Model Parameter
        Randomisation Test", NeurIPS 2023 workshop XAI in Action (eMPRT).

    Example:
        >>> import torch
        >>> trained = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])  # 1 bit
        >>> complexity_rise(trained, torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]))  # 2 bits
        tensor([1.])
    """
    check_same_shape("complexity_rise", ("maps", "maps_random"), maps, maps_random)
    before, after = histogram_entropy(maps, bins), histogram_entropy(maps_random, bins)
    return torch.where(before > 0, (after - before) / torch.where(before > 0, before, 1.0), 0.0)


def histogram_entropy(maps: Tensor, bins: int = 100) -> Tensor:
    """Entropy of the histogram of each map, in bits: its complexity.

    Args:
        maps: [..., H, W]; signed.
        bins: Number of bins, of equal width from the minimum to the maximum of each map.

    Returns:
        One number per map, [...], from 0 (constant) to ``log2(bins)``.

    Raises:
        NonFiniteError: A map holds NaN or infinity.
        ValueError: ``bins`` is not at least 1.

    References:
        Hedstroem et al., "Sanity Checks Revisited", NeurIPS 2023 workshop XAI in Action (discrete
        entropy).

    Example:
        >>> import torch
        >>> histogram_entropy(torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[5.0, 5.0], [5.0, 6.0]]]))
        tensor([2.0000, 0.8113])
    """
    check_positive("histogram_entropy", "bins", bins)
    values = checked_values("histogram_entropy", "maps", maps).flatten(-2)
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    places = ((values - low) / width * bins).long().clamp(max=bins - 1)
    counts = values.new_zeros(*values.shape[:-1], bins)
    counts.scatter_add_(-1, places, torch.ones_like(values))
    entropy: Tensor = torch.special.entr(counts / values.shape[-1]).sum(-1)
    return entropy / math.log(2)


def _similarity(first: Tensor, second: Tensor) -> Similarity:
    return Similarity(spearman(first, second), spearman(first.abs(), second.abs()))


def _centred_ranks(maps: Tensor) -> Tensor:
    """Ranks less their mean, in units of half the pixels, [..., H * W]."""
    values = maps.flatten(-2).contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    pixels = values.shape[-1]
    # Equal values hold the ranks below + 1 to up_to; half of (below + up_to - pixels) is the
    # distance of their mean from (pixels + 1) / 2, the mean of all.
    return (below + up_to - pixels).to(values) / max(pixels, 1)


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return list(chain(module.parameters(recurse=False), module.buffers(recurse=False)))


def _can_reset(module: nn.Module) -> bool:
    return callable(getattr(module, "reset_parameters", None))


def _resettable(model: nn.Module) -> list[str]:
    """Names of the layers to randomise, the last defined one first."""
    names = []
    for name, module in model.named_modules():
        _check_weight_is_its_own(name, module)
        if _can_reset(module) and _own_tensors(module):
            names.append(name)
        elif next(module.parameters(recurse=False), None) is not None:
            own = ", ".join(repr(key) for key, _ in module.named_parameters(recurse=False))
            raise UnsupportedModelError(
                f"cascading_randomisation: {name or '<the model itself>'!r} "
                f"({type(module).__name__}) holds {own} but has no reset_parameters(). They would "
                "stay as trained, and the model would never be quite random. Give the class such "
                "a method, or name the layers to randomise with layers=."
            )
    return names[::-1]


def _named(model: nn.Module, layers: Sequence[str]) -> list[str]:
    modules: dict[str, Any] = dict(model.named_modules())
    for layer in layers:
        if layer not in modules or not _can_reset(modules[layer]):
            raise LayerError(
                f"cascading_randomisation: the model has no layer {layer!r} with "
                "reset_parameters(). There is nothing to randomise. "
                f"Use names such as {', '.join(repr(name) for name in _examples(modules))}."
            )
        _check_weight_is_its_own(layer, modules[layer])
    return list(layers)


def _check_weight_is_its_own(name: str, module: nn.Module) -> None:
    """Refuse a layer whose weight is computed anew in every pass: resetting it does nothing."""
    own = [key for key, _ in module.named_parameters(recurse=False)]
    tensors = [key for key, value in vars(module).items() if isinstance(value, Tensor)]
    computed = [key for key in tensors if any(other.startswith(f"{key}_") for other in own)]
    remedy = "remove_weight_norm(), remove_spectral_norm() or prune.remove()"
    if is_parametrized(module):
        computed = [key for key, _ in module.get_submodule("parametrizations").named_children()]
        remedy = "parametrize.remove_parametrizations()"
    if computed:
        raise UnsupportedModelError(
            f"cascading_randomisation: {name or '<the model itself>'!r} computes its "
            f"{' and '.join(map(repr, computed))} from other parameters (weight norm, spectral "
            "norm or pruning). reset_parameters() would not change them, and the layer would stay "
            f"as trained. Make the weight a parameter again with {remedy} of torch.nn.utils."
        )


def _examples(modules: dict[str, nn.Module]) -> list[str]:
    return [name for name, module in modules.items() if _can_reset(module)][:5]


def _reinitialise(layer: nn.Module, random_seed: int) -> None:
    """Draw new weights on the CPU, where they are the same for every device."""
    device = next(chain(layer.parameters(), layer.buffers()), torch.empty(0)).device
    layer.cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random_seed)
        reset: Callable[[], None] = layer.reset_parameters  # type: ignore[assignment]
        reset()
    layer.to(device)
