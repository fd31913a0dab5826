"""Which inputs an engine takes: its optimization profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .build_options import DEFAULTS, Profile, Shape
from .errors import BuildError
from .tensorrt_api import TensorRT


def add_profiles(tensorrt: TensorRT, builder: Any, network: Any, config: Any, profiles: Sequence[Profile]) -> list[Any]:
    """Give ``config`` a profile of every input with a dynamic batch, and return TensorRT's profiles.

    Raises:
        BuildError: an input has another rank or other sizes, more than the batch is dynamic, or TensorRT refuses.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    for tensor in inputs:
        shape = tuple(tensor.shape)
        if not shape or -1 in shape[1:]:
            raise BuildError(f"expected inputs whose batch alone is dynamic, found {tensor.name!r} of shape {shape}")
    dynamic = [tensor for tensor in inputs if tensor.shape[0] == -1]
    if not dynamic:
        batch = next((tensor.shape[0] for tensor in inputs), None)
        if tuple(profiles) != DEFAULTS.profiles:
            raise BuildError(f"expected no --shapes for a graph of fixed batch {batch}, found {profiles[0]}")
        return []
    made = []
    for profile in profiles:
        added = builder.create_optimization_profile()
        for tensor in dynamic:
            sizes = (profile.smallest, profile.best, profile.largest)
            added.set_shape(tensor.name, *(_whole(size, tensor.name, tuple(tensor.shape)) for size in sizes))
        if config.add_optimization_profile(added) < 0:
            raise BuildError(f"{tensorrt} refused the shapes {profile}: {tensorrt.log.last_error}")
        made.append(added)
    return made


def _whole(given: Shape, name: str, shape: Shape) -> Shape:
    """Return ``given`` with the sizes that follow the batch in ``shape``, the input's own."""
    if len(given) > 1 and given[1:] != shape[1:]:
        wanted = "x".join(["N", *map(str, shape[1:])])
        raise BuildError(f"expected shapes {wanted} for the input {name!r}, found {'x'.join(map(str, given))}")
    return given[0], *shape[1:]
