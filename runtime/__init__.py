"""What a device needs: bundles, preprocessing, sessions, errors, specs.

For programs::

    import quillrt.runtime as qr

    with qr.open("model.quill") as model:
        print(model.predict("digit.png").label)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recognizer import open_recognizer as open  # noqa: A004 - as other libraries' open

__all__ = ["open"]


def __getattr__(name: str) -> Any:
    """Load what opens bundles when it is asked for: the command line imports this package before it needs numpy."""
    if name == "open":
        from .recognizer import open_recognizer

        return open_recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
