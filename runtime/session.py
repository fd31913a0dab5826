"""What every backend looks like from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from .cache import NO_CACHE, Cache
from .errors import ConfigError

if TYPE_CHECKING:  # the command line knows the options before it needs numpy
    import numpy as np
    from numpy.typing import NDArray

    from .spec import ModelSpec

_S = TypeVar("_S", bound="Session")
CLOSED = "expected an open session, found a closed one: open another"


@dataclass(frozen=True)
class SessionOptions:
    """How a session may use the machine.

    Attributes:
        threads: CPU threads inside one query; ``None`` leaves it to the library.
        device: index of the GPU.
        provider_options: options of one backend's own library, by name (``ort_options`` has those there are).
        tf32: let FP32 products round their inputs to TF32, 10 bits of mantissa, where the backend is out of
            ``backends.TF32``.
        cuda_graph: submit each query to a GPU as one CUDA graph, captured once for each batch size, of up to 16 sizes
            and as far as memory goes; queries of other sizes go without.
        host_code: load an engine that holds code for the processor, of whoever made it.
        cache: keeps what a backend compiles for this device.
        batch_sizes: how many images the queries to come have. OpenVINO makes a graph for each of these sizes alone,
            which holds the weights once more and is quicker than that for any size.

    Raises:
        ConfigError: a size of batch is no whole number of 1 or more.
    """

    threads: int | None = None
    device: int = 0
    provider_options: Mapping[str, str] = field(default_factory=dict)
    tf32: bool = False
    cuda_graph: bool = False
    host_code: bool = False
    cache: Cache = NO_CACHE
    batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not (isinstance(sizes, tuple) and all(type(size) is int and size > 0 for size in sizes)):
            raise ConfigError(
                f"expected as batch_sizes a tuple of whole numbers of 1 or more, found {sizes!r}; give (1, 16) for "
                "single images and for 16 at a time"
            )


class Session(Protocol):
    """One loaded model, ready to run; ``with`` closes it."""

    @property
    def spec(self) -> ModelSpec:
        """What goes in and what comes out."""
        ...

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits float32 (N, K) for images float32 (N, C, H, W).

        Raises:
            SpecError: the batch has another type or shape, is empty or holds NaN.
            BackendUnavailable: the device failed, or the session is closed.
        """
        ...

    def close(self) -> None:
        """Free what the session holds; a closed session is not used again."""
        ...

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
