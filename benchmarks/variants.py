"""Which rows contestants have: those asked for, each once more with options, CUDA graphs or for a batch size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from quillrt.runtime.backends import CUDA_GRAPHS
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.ort_options import OPTIONS, check_options, for_batch

from . import torch_sessions
from .contestants import NAMES, Contestant
from .torch_sessions import TORCH_BACKENDS


def only(contestants: Iterable[Contestant], backends: Iterable[str]) -> list[Contestant]:
    """Return the contestants of these backends, or all if none is named.

    Raises:
        ConfigError: no backend has such a name.
    """
    wanted = set(backends)
    if unknown := sorted(wanted - set(NAMES)):
        raise ConfigError(f"expected backends out of {', '.join(NAMES)}, found {', '.join(unknown)}; check the names")
    return [c for c in contestants if not wanted or c.backend in wanted]


def tuned(
    contestants: Sequence[Contestant], options: Mapping[str, str], variants: Sequence[Mapping[str, str]]
) -> list[Contestant]:
    """Return the contestants with options of their libraries, and once more for each of ``variants`` that they take.

    Args:
        contestants: who takes part.
        options: what all of them run with whose backend takes it.
        variants: what one further row each has besides; one option, or several that a backend takes together.

    Raises:
        ConfigError: no backend takes one of these options, or not with that value.
    """
    backends = dict.fromkeys(contestant.backend for contestant in contestants)
    for key, value in [*options.items(), *(pair for variant in variants for pair in variant.items())]:
        takers = [backend for backend in backends if key in _options_of(backend)]
        for backend in takers or OPTIONS.keys() & backends.keys():  # who does not take it says so in its own words
            _check_options(backend, {key: value})
        if not takers:
            known = [name for name in NAMES if key in _options_of(name)] or [*torch_sessions.OPTIONS, *OPTIONS]
            raise ConfigError(
                f"expected a backend that takes {key}, found {', '.join(backends)}; add --backend {' or '.join(known)}"
            )
    found = []
    for contestant in contestants:
        own = _options_of(contestant.backend)
        common = {key: value for key, value in options.items() if key in own}
        found.append(replace(contestant, options=common))
        for variant in variants:
            if takes(contestant.backend, variant) and torch_sessions.fits(contestant.precision, variant):
                said = ",".join(f"{key}={value}" for key, value in variant.items())
                precision = torch_sessions.computed_in(contestant.precision, variant)
                found.append(replace(contestant, options={**common, **variant}, variant=said, precision=precision))
    for contestant in found:
        _check_options(contestant.backend, contestant.options)
    return found


def graphed(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Return the contestants, each whose backend makes CUDA graphs once more with them.

    Raises:
        ConfigError: none does.
    """
    makers = (*torch_sessions.CUDA_GRAPHS, *CUDA_GRAPHS)
    if not any(contestant.backend in makers for contestant in contestants):
        named = ", ".join(dict.fromkeys(contestant.backend for contestant in contestants))
        raise ConfigError(f"expected one of {', '.join(makers)} for CUDA graphs, found {named}; add one with --backend")
    found = []
    for contestant in contestants:
        found.append(contestant)
        # An option in the row's name may be the library's own switch for them.
        if contestant.backend in makers and not contestant.variant and contestant.model:
            found.append(replace(contestant, cuda_graph=True, variant="CUDA graph"))
    return found


def by_batch(contestants: Sequence[Contestant], batches: Sequence[int]) -> list[Contestant]:
    """Return the contestants, each whose backend builds an engine for batches once for each of ``batches``.

    Such an engine is the fastest for the batch it was tuned for, as one of TensorRT's with a profile for each is.
    """
    found = []
    for contestant in contestants:
        own = contestant.options
        tied = {batch: for_batch(contestant.backend, own, batch) for batch in batches}
        if any(options is not own for options in tied.values()):
            found += [replace(contestant, options=options, batch=batch) for batch, options in tied.items()]
        else:
            found.append(contestant)
    return found


def takes(backend: str, options: Mapping[str, str]) -> bool:
    """Tell whether the backend has all of these options."""
    return options.keys() <= set(_options_of(backend))


def _options_of(backend: str) -> Collection[str]:
    return {**OPTIONS.get(backend, {}), **torch_sessions.OPTIONS.get(backend, {})}


def _check_options(backend: str, options: Mapping[str, str]) -> None:
    if backend in TORCH_BACKENDS:
        torch_sessions.check_options(backend, options)
    else:
        check_options(backend, for_batch(backend, options, 1))  # they will be tied to one, see by_batch
