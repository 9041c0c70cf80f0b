"""Weights of published s2cnn models, in layers of the same semantics."""

from collections.abc import Mapping

from torch import Tensor, nn

from .layers import S2Conv, SO3Conv


def load_s2cnn_state_dict(model: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> list[str]:
    """Load the parameters of a published s2cnn model into our layers, equivariant under SO(3) as before.

    The numbers need no conversion: kernels are `[C_in, C_out, P]` on the same points in the same order, biases
    `[1, C_out, 1, 1, 1]`, scaled alike in the forward pass. What must agree is how the layers were built: build SO(3)
    grids with `so3_near_identity(.., compatible=True)` and, where b_out > b_in, layers with `alias=True`. Names are
    matched first as they are (a leading `module.` of data-parallel training is dropped); if some do not match, the
    spherical layers are matched in order, and the rest by name.

    Args:
        model: a module whose spherical layers have the published sizes.
        state: its published `state_dict()`.
        strict: refuse parameters that are missing or left over.

    Returns:
        The names in `state` that were not used (always empty when strict).

    Raises:
        ValueError: if shapes do not fit, or, when strict, a parameter is missing or left over.

    Example:
        >>> import torch
        >>> layer = SO3Conv(1, 2, 2, 2, [(0.0, 0.0, 0.0)])
        >>> published = {"module.kernel": torch.ones(1, 2, 1), "module.bias": torch.zeros(1, 2, 1, 1, 1)}
        >>> load_s2cnn_state_dict(layer, published)
        []

    Source: the parameter layout of Cohen et al. 2018's published code.
    """
    given = {name.removeprefix("module."): value for name, value in state.items()}
    own = dict(model.state_dict())
    if not set(given) >= set(own):
        given = _by_order(model, given)
    for name, value in given.items():
        if name in own and own[name].shape != value.shape:
            raise ValueError(
                f"{name} is {tuple(value.shape)} in the published weights and {tuple(own[name].shape)} in the model: "
                "build the layer with the published channels and grid (SO(3) grids with compatible=True)"
            )
    missing, unused = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    if strict and (missing or unused):
        raise ValueError(
            f"the published weights do not fit the model: missing {missing or 'nothing'}, "
            f"left over {unused or 'nothing'}"
        )
    model.load_state_dict({name: value for name, value in given.items() if name in own}, strict=False)
    return unused


def _by_order(model: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the n-th published spherical layer (a 3-axis kernel beside a 5-axis bias) to the n-th of the model."""
    published = [
        name.removesuffix("kernel")
        for name, value in given.items()
        if name.split(".")[-1] == "kernel"
        and value.ndim == 3
        and given.get(name.removesuffix("kernel") + "bias") is not None
    ]
    layers = [
        f"{name}." if name else "" for name, module in model.named_modules() if isinstance(module, S2Conv | SO3Conv)
    ]
    renamed = dict(zip(published, layers, strict=False)) if len(published) == len(layers) else {}
    result = {}
    for name, value in given.items():
        prefix, _, last = name.rpartition(".")
        prefix = f"{prefix}." if prefix else ""
        result[renamed.get(prefix, prefix) + last] = value
    return result
