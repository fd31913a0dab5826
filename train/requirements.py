"""One sentence for a library that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quillrt.runtime.errors import BackendUnavailable


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Turn a failed import inside the ``with`` block into the pip command that mends it.

    Raises:
        BackendUnavailable: the block imported a package that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendUnavailable(f"{what} needs the package {error.name}: pip install 'quillrt[train]'") from error
