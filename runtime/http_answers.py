"""What the server says of images and of its model, as plain JSON values; `openapi.json` describes them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .prepare import AUTO
from .serving import Served
from .spec import ModelSpec


@dataclass(frozen=True)
class Answers:
    """What answers say.

    Attributes:
        file: the file of the bundle that runs.
        backend: what runs it.
        bundle: the bundle's name.
        sha256: its fingerprint.
        top_k: labels of each image, where the request does not say.
        min_confidence: below this probability an image is unsure.
        reject: what is not taken for a character gets no answer.
        preprocessing: how images are prepared, as for ``prepare.prepare``.
    """

    file: str
    backend: str
    bundle: str
    sha256: str
    top_k: int = 1
    min_confidence: float = 0.0
    reject: bool = True
    preprocessing: str = AUTO

    def predictions(self, served: Iterable[Served], top_k: int, *, inputs: bool) -> list[dict[str, Any]]:
        """Return what is said of each image, with the network's input if ``inputs``."""
        said = []
        for each in served:
            prediction = each.top(top_k).to_json(self.min_confidence, reject=self.reject)
            said.append({**prediction, "input": _pixels(each)} if inputs else prediction)
        return said

    def model(self, spec: ModelSpec) -> dict[str, Any]:
        """Return what runs and what it wants."""
        _, _, height, width = spec.input.shape
        return {
            "bundle": {"name": self.bundle, "sha256": self.sha256},
            "file": self.file,
            "backend": self.backend,
            "labels": list(spec.labels),
            "input": {"channels": spec.channels, "height": height, "width": width},
            "preprocessing": {"way": self.preprocessing, "recipe": asdict(spec.preprocessing)},
        }


def _pixels(served: Served) -> dict[str, Any]:
    """Return the network's input: grey levels row by row, in base64."""
    height, width = served.fitted.shape
    return {"height": height, "width": width, "grey": base64.b64encode(served.fitted.tobytes()).decode()}
