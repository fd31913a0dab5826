"""The configuration of a model on a Triton server: `config.pbtxt`, protobuf's text form of Triton's `ModelConfig`.

Fields and their rules: `model_config.proto` of triton-inference-server/common, "Model Configuration" of Triton's user
guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from quillrt.runtime.errors import ConfigError, SpecError
from quillrt.runtime.spec import ModelSpec, TensorSpec

LABELS = "labels.txt"
WARMUP = "warmup"  # the folder where Triton looks for input_data_file
KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
LARGEST_BATCH = 2**31 - 1  # max_batch_size is an int32
_TYPES = {"float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # a folder's name and a part of the server's addresses
_POLICY = re.compile(r"all|latest(:[1-9]\d{0,8})?|[1-9]\d{0,17}(,[1-9]\d{0,17})*")


class _Word(str):
    """A value that stands without quotes: an enumerator."""

    __slots__ = ()


_Fields = list[tuple[str, Any]]  # of a message: a value is text, _Word, number, tuple of these, or a message again


def check_name(name: str) -> None:
    """Raise unless ``name`` can be a model's: a folder, and a part of the addresses that clients ask.

    Raises:
        ConfigError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"expected a model name of letters, digits, '_', '-' and '.', that begins with a letter or digit, "
            f"found {name!r}; give --name"
        )


@dataclass(frozen=True)
class Serving:
    """How a server is to run a model; what only the model or an engine can tell is checked in ``compile.triton``.

    Attributes:
        max_batch: images in one run at most; 0 turns batching off, ``None`` leaves it to the model.
        preferred_batches: sizes at which a batch is run without waiting for more.
        max_queue_delay_us: how long a request may wait for others, in microseconds.
        instances: copies of the model, for each GPU or on the CPU.
        kind: out of ``KINDS``; ``auto`` runs on GPUs where the server has them.
        gpus: their numbers on the server; none: all.
        policy: which versions are served: ``latest``, ``latest:2`` (the two latest), ``all``, or ``1,3``.
    """

    max_batch: int | None = None
    preferred_batches: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    instances: int = 1
    kind: str = "auto"
    gpus: tuple[int, ...] = ()
    policy: str = "latest"

    def __post_init__(self) -> None:
        if self.max_batch is not None and not 0 <= self.max_batch <= LARGEST_BATCH:
            raise ConfigError(f"expected --max-batch of 0 to {LARGEST_BATCH}, found {self.max_batch}")
        if not 0 <= self.max_queue_delay_us < 2**63:
            raise ConfigError(f"expected --max-queue-delay-us of 0 or more, found {self.max_queue_delay_us}")
        if not 1 <= self.instances <= LARGEST_BATCH:
            raise ConfigError(f"expected --instances of 1 or more, found {self.instances}")
        if self.kind not in KINDS:
            raise ConfigError(f"expected a --kind out of {', '.join(KINDS)}, found {self.kind!r}")
        if any(gpu < 0 or self.gpus.count(gpu) > 1 for gpu in self.gpus):
            raise ConfigError(f"expected the numbers of different GPUs, found {', '.join(map(str, self.gpus))}")
        if self.gpus and self.kind == "cpu":
            raise ConfigError("expected --kind gpu or auto beside --gpu, found cpu; leave one out")
        if not _POLICY.fullmatch(self.policy):
            raise ConfigError(
                f"expected --version-policy latest, latest:2, all, or versions such as 1,3, found {self.policy!r}"
            )

    def serves(self, version: int) -> bool:
        """Tell whether the policy could ever serve ``version``."""
        return self.policy.startswith(("all", "latest")) or version in map(int, self.policy.split(","))


@dataclass(frozen=True)
class Warmup:
    """One request that the server runs before the model is ready.

    Attributes:
        name: of the image it was made of.
        file: in the folder ``WARMUP``: one input, float32, little-endian, row-major.
        batch: how many times that input is sent at once.
    """

    name: str
    file: str
    batch: int = 1


@dataclass(frozen=True)
class TritonConfig:
    """All that `config.pbtxt` says.

    Attributes:
        name: of the model and its folder.
        backend: out of ``PLATFORMS``.
        model: inputs, outputs and preprocessing.
        max_batch: images in one run at most; 0 for a model whose requests are not batched.
        serving: how it is run.
        default_file: the model's file in a version's folder.
        files_by_capability: another file for GPUs of a compute capability.
        profiles: how many optimization profiles an engine has.
        dla_core: deep learning accelerator that an engine was built for.
        warmups: requests before the model is ready.
    """

    name: str
    backend: str
    model: ModelSpec
    max_batch: int
    serving: Serving
    default_file: str
    files_by_capability: Mapping[str, str] = field(default_factory=dict)
    profiles: int = 1
    dla_core: int | None = None
    warmups: tuple[Warmup, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        preferred, delay = self.serving.preferred_batches, self.serving.max_queue_delay_us
        if self.max_batch < 2 and (preferred or delay):
            raise ConfigError(
                f"expected --max-batch of 2 or more beside --preferred-batch and --max-queue-delay-us, found "
                f"{self.max_batch}; leave them out"
            )
        if strange := [size for size in preferred if not 1 <= size <= self.max_batch]:
            raise ConfigError(
                f"expected each --preferred-batch from 1 to {self.max_batch}, the largest batch, found "
                f"{', '.join(map(str, strange))}"
            )

    def text(self) -> str:
        """Return `config.pbtxt`."""
        return "\n".join(_lines(self._fields())) + "\n"

    def dims(self, tensor: TensorSpec) -> tuple[int, ...]:
        """Return a tensor's shape as Triton writes it: without the batch where requests are batched, -1 for any."""
        return tuple(-1 if size is None else size for size in tensor.shape[1 if self.max_batch else 0 :])

    def _fields(self) -> _Fields:
        image, logits = self.model.input, self.model.output
        recipe = json.dumps(asdict(self.model.preprocessing))
        fields: _Fields = [
            ("name", self.name),
            ("backend", self.backend),
            ("platform", PLATFORMS[self.backend]),
            ("default_model_filename", self.default_file),
            *(
                ("cc_model_filenames", [("key", capability), ("value", file)])
                for capability, file in self.files_by_capability.items()
            ),
            ("max_batch_size", self.max_batch),
            ("input", self._tensor(image)),
            ("output", [*self._tensor(logits), ("label_filename", LABELS)]),
            ("version_policy", self._policy()),
            ("instance_group", self._instances()),
        ]
        if self.max_batch > 1:
            fields.append(("dynamic_batching", self._batching()))
        fields += [("model_warmup", self._warmup(sample)) for sample in self.warmups]
        # Clients get it with the configuration, and no second version slips in that wants other images.
        fields.append(("parameters", [("key", "quillrt_preprocessing"), ("value", [("string_value", recipe)])]))
        return fields

    def _tensor(self, tensor: TensorSpec) -> _Fields:
        return [("name", tensor.name), ("data_type", _type(tensor)), ("dims", self.dims(tensor))]

    def _policy(self) -> _Fields:
        policy, _, count = self.serving.policy.partition(":")
        if policy == "all":
            return [("all", [])]
        if policy == "latest":
            return [("latest", [("num_versions", int(count or 1))])]
        return [("specific", [("versions", tuple(map(int, policy.split(","))))])]

    def _instances(self) -> _Fields:
        serving = self.serving
        kind = "gpu" if self.backend == "tensorrt" else serving.kind
        fields: _Fields = [("count", serving.instances), ("kind", _Word(KINDS[kind]))]
        if serving.gpus:
            fields.append(("gpus", serving.gpus))
        if self.profiles > 1:  # of several, Triton takes the first unless they are named
            fields.append(("profile", tuple(map(str, range(self.profiles)))))
        if self.dla_core is not None:
            fields.append(("secondary_devices", [("kind", _Word("KIND_NVDLA")), ("device_id", self.dla_core)]))
        return fields

    def _batching(self) -> _Fields:
        fields: _Fields = [("max_queue_delay_microseconds", self.serving.max_queue_delay_us)]
        if self.serving.preferred_batches:
            fields.insert(0, ("preferred_batch_size", self.serving.preferred_batches))
        return fields

    def _warmup(self, sample: Warmup) -> _Fields:
        image = self.model.input
        batch = self.model.input.shape[0] or 1
        dims = self.dims(image) if self.max_batch else (batch, *self.dims(image)[1:])
        value: _Fields = [("data_type", _type(image)), ("dims", dims), ("input_data_file", sample.file)]
        inputs: _Fields = [("key", image.name), ("value", value)]
        return [("name", sample.name), ("batch_size", sample.batch), ("inputs", inputs)]


def _type(tensor: TensorSpec) -> _Word:
    if tensor.dtype not in _TYPES:
        raise SpecError(f"expected {tensor.name!r} as {', '.join(_TYPES)} for Triton, found {tensor.dtype}")
    return _Word(_TYPES[tensor.dtype])


def _lines(fields: _Fields, indent: str = "") -> Iterator[str]:
    for name, value in fields:
        if isinstance(value, list):
            yield f"{indent}{name} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        elif isinstance(value, tuple):
            yield f"{indent}{name}: [{', '.join(map(_literal, value))}]"
        else:
            yield f"{indent}{name}: {_literal(value)}"


def _literal(value: str | int) -> str:
    """Return a value of protobuf's text form: quoted text has the escapes of C, so control characters become octal."""
    if isinstance(value, _Word | int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", escaped) + '"'
