"""The manifest of a bundle: what each file in it is, what made it and what it fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .confidence import AS_IT_IS, Confidence
from .errors import BundleError, QuillError
from .precision import Precision
from .spec import ModelSpec
from .strict_json import read_printable
from .typed import NUMBER, checked, each_checked, only

MANIFEST = "manifest.json"
SCHEMA = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_BUILD_S = 1e9
_CAPABILITY = re.compile(r"\d+\.\d+\+?")  # with a plus: that one and later
KINDS = ("onnx", "engine", "program", "calibration", "report")
# Who opens engines and programs. All others open graphs, and only what is called a graph is looked through as one.
_NATIVE = frozenset({"tensorrt", "tensorrt-rtx", "litert", "pytorch", "pytorch-aot"})


@dataclass(frozen=True)
class Entry:
    """One file in a bundle.

    Attributes:
        path: its name in the zip.
        kind: ``onnx``, ``engine``, ``program`` (of torch.export), ``calibration`` or ``report``.
        sha256: of its bytes, in hexadecimal.
        size: in bytes.
        precision: number format it computes in; ``None`` for what does not compute.
        backends: which backends open it as it is.
        typed_for: which engine builders take it (an ONNX graph typed for them).
        tools: name and version of what made it.
        built_for: for an engine, what it fits (TensorRT's version, compute capabilities) and what it computes in
            (``products``: number of convolutions and matrix products by datatype, as the builder lists its kernels;
            ``macs``: their multiply-adds for one image), how many ``seconds`` it was built, and on which ``gpu`` and
            with which ``options`` where these are not the defaults; for an ONNX graph, ``kernels``: the same by the
            backend that was asked on the machine that compiled, with its ``version`` and ``cpu``; for an AOTInductor
            package ``torch``, ``machine``, ``cpu_capability`` and ``instructions`` that it wants.
        calibration: fingerprint of the calibration table its ranges come from.
        calibrated: how those ranges were found, in a few words.
        measured: accuracy and latency found when it was made, each with n and where.
    """

    path: str
    kind: str
    sha256: str
    size: int
    precision: Precision | None = None
    backends: tuple[str, ...] = ()
    typed_for: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    built_for: Mapping[str, Any] = field(default_factory=dict)
    calibration: str | None = None
    calibrated: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """Return the entry that ``Manifest.to_json`` wrote."""
        values = {**only(data, (each.name for each in fields(cls)), "an entry")}
        if values.get("precision") is not None:
            values["precision"] = Precision.parse(checked(values["precision"], str, "a precision"))
        for key in ("backends", "typed_for"):
            values[key] = each_checked(values[key], str, f"the list {key}", f"one of {key}")
        entry = cls(**values)
        for text, what in ((entry.path, "a path"), (entry.sha256, "a sha256"), (entry.calibrated, "calibrated")):
            checked(text, str, what)
        if not _SHA256.fullmatch(entry.sha256) or checked(entry.size, int, "a size") < 0:
            raise BundleError(f"the sha256 of {entry.path} is {entry.sha256[:80]!r}, its size {entry.size}")
        if entry.calibration is not None:
            checked(entry.calibration, str, "the fingerprint of a calibration")
        for name, version in checked(entry.tools, dict, "the table of tools").items():
            checked(version, str, f"the version of {name}")
        _check_built_for(checked(entry.built_for, dict, "what an entry is built for"))
        for backend, found in checked(entry.measured, dict, "what was measured").items():
            checked(found, dict, f"what was measured on {backend}")
            checked(found.get("accuracy"), NUMBER, f"the accuracy on {backend}")
            checked(found.get("n"), int, f"the n of {backend}")
        if entry.kind not in KINDS:
            raise BundleError(
                f"manifest entry {entry.path}: expected a kind out of {', '.join(KINDS)}, found {entry.kind!r}"
            )
        openers = _NATIVE if entry.kind in ("engine", "program") else frozenset()
        if entry.kind != "onnx" and (entry.typed_for or not openers.issuperset(entry.backends)):
            named = ", ".join((*entry.backends, *entry.typed_for))
            raise BundleError(f"manifest entry {entry.path}: no file of the kind {entry.kind} is for {named}")
        return entry


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself: the model, where it came from, and each file.

    Attributes:
        model: inputs, outputs, labels, preprocessing.
        source: kind (``checkpoint`` or ``onnx``) and sha256 of the file it was compiled from, and its training record.
        entries: every file but the manifest.
        preferred: ``path`` and ``backend`` that were the fastest where it was compiled; empty if nothing was timed.
        confidence: how sure the model's answers are; as they are in bundles that do not say.
    """

    model: ModelSpec
    source: Mapping[str, Any]
    entries: tuple[Entry, ...]
    preferred: Mapping[str, str] = field(default_factory=dict)
    confidence: Confidence = AS_IT_IS

    @property
    def training(self) -> Mapping[str, Any]:
        """The record of the model's training; empty for what came from an ONNX file."""
        record: Mapping[str, Any] = self.source.get("training", {})
        return record

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, the schema's version first."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> Manifest:
        """Return the manifest that ``to_json`` wrote.

        Raises:
            BundleError: its schema is newer than this program, or a field is missing or malformed.
        """
        if not isinstance(data, dict) or type(data.get("schema")) is not int:
            raise BundleError("expected a manifest with a schema number, found none; make the bundle again")
        if data["schema"] > SCHEMA:
            raise BundleError(
                f"expected a manifest of schema {SCHEMA} or older, found {data['schema']}; "
                "it was written by a newer quillrt: upgrade with pip install -U quillrt"
            )
        try:
            only(data, ("schema", *(each.name for each in fields(cls))), "the manifest")
            preferred = checked(data.get("preferred", {}), dict, "preferred")
            for key, value in preferred.items():
                checked(value, str, f"the preferred {key}")
            return cls(
                model=ModelSpec.from_json(data["model"]),
                source=_check_source(data["source"]),
                entries=tuple(map(Entry.from_json, checked(data["entries"], list, "the list of entries"))),
                preferred=preferred,
                confidence=Confidence.from_json(data.get("confidence", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError, QuillError) as error:
            raise BundleError(
                f"expected a whole manifest, found a malformed one: {error}; make the bundle again"
            ) from error


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest in the bytes of ``manifest.json``.

    Raises:
        BundleError: it is no plain JSON, has text that cannot be printed, or as ``Manifest.from_json``.
    """
    try:
        described = read_printable(data)
    except ValueError as error:
        raise BundleError(f"expected JSON in {MANIFEST}, but {error}; make the bundle again") from error
    return Manifest.from_json(described)


def _check_source(source: Any) -> dict[str, Any]:
    record: dict[str, Any] = checked(source, dict, "source")
    training = checked(record.get("training", {}), dict, "the record of training")
    checked(training.get("dataset", ""), str, "the data set of training")
    return record


def _check_built_for(facts: Mapping[str, Any]) -> None:
    checked(facts.get("tensorrt", ""), str, "TensorRT's version")
    for key in ("torch", "machine", "cpu_capability"):
        checked(facts.get(key, ""), str, f"{key} that a file is built for")
    checked(facts.get("instructions", []), list, "the list of instructions")
    for instruction in facts.get("instructions", []):
        checked(instruction, str, "an instruction")
    capabilities = facts.get("compute_capabilities", [])
    checked(capabilities, list, "the list of compute capabilities")
    for capability in capabilities:
        checked(capability, str, "a compute capability")
        if not _CAPABILITY.fullmatch(capability):
            raise BundleError(f"a compute capability is {capability!r}")
    checked(facts.get("options", {}), dict, "how an engine was built")
    if not 0 <= (seconds := checked(facts.get("seconds", 0.0), NUMBER, "the time of a build")) < _LONGEST_BUILD_S:
        raise BundleError(f"the time of a build is {str(seconds)[:80]} s")
    _check_counts(facts)
    kernels = facts.get("kernels", {})
    checked(kernels, dict, "the table of kernels")
    for backend, found in kernels.items():
        checked(found, dict, f"what {backend} makes of a graph")
        _check_counts(found)
        checked(found.get("reformats", 0), int, f"the number of reformats of {backend}")


def _check_counts(facts: Mapping[str, Any]) -> None:
    for table, what in (("products", "products"), ("macs", "multiply-adds")):
        counts = facts.get(table, {})
        checked(counts, dict, f"the table of {what}")
        for kind, count in counts.items():
            checked(count, int, f"the number of {kind} {what}")
