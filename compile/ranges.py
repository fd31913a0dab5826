"""Calibration of a source: which images, and the tables of ranges found on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from quillrt.calibration.collect import activations, collect, tabulate
from quillrt.calibration.histogram import pack, unpack
from quillrt.calibration.methods import Method
from quillrt.calibration.samples import draw_samples, random_samples, sample_hashes
from quillrt.calibration.table import RANDOM_DATA, CalibrationTable
from quillrt.runtime.cache import NO_CACHE, Cache
from quillrt.runtime.errors import CalibrationError
from quillrt.runtime.imageset import ImageSet
from quillrt.runtime.progress import Track, no_progress
from quillrt.runtime.versions import versions
from quillrt.train.evaluation import check_labels

from .config import CompileConfig
from .qat import as_trained
from .source import Source

_SAMPLES = 512  # ranges of small networks settle within a few hundred images


@dataclass(frozen=True)
class Images:
    """What compiling needs of a data set: ``training`` calibrates, ``validation`` judges; test stays unseen."""

    dataset: str
    training: ImageSet
    validation: ImageSet


def calibrate_source(
    source: Source, images: Images | None, config: CompileConfig, track: Track = no_progress, cache: Cache = NO_CACHE
) -> CalibrationTable:
    """Return the ranges of ``source`` on samples of the training part, or on noise where that is asked for.

    Raises:
        CalibrationError: no images and no noise either, or see ``draw_samples`` and ``collect``.
    """
    return tables_of(source, images, config, (config.method,), track, cache)[0]()


def tables_of(
    source: Source,
    images: Images | None,
    config: CompileConfig,
    methods: Sequence[Method],
    track: Track = no_progress,
    cache: Cache = NO_CACHE,
) -> list[Callable[[], CalibrationTable]]:
    """Return for each method what makes its table; all of them read the same counts, and keep ranges trained for."""
    spec = source.spec
    if images is None and not config.random_data:
        raise CalibrationError("expected training images to calibrate on, found none; name a data set")
    if images is None or config.random_data:
        dataset = RANDOM_DATA
        samples = random_samples(spec.labels, spec.preprocessing, config.samples or _SAMPLES, config.seed)
    else:
        check_labels(spec, images.training)
        dataset = images.dataset
        samples = draw_samples(images.training, config.samples or min(_SAMPLES, len(images.training)), config.seed)
    watched = repr(sorted(activations(source.graph)))
    ingredients = (source.sha256, watched, repr(spec.preprocessing), *sample_hashes(samples))
    counts = unpack(
        cache.made(
            lambda: pack(collect(source.graph, spec, samples, track)),
            *("counts", repr(versions("quillrt", "onnxruntime")), *ingredients),
        )
    )

    def table(method: Method) -> CalibrationTable:
        return as_trained(tabulate(counts, source.graph, spec, samples, dataset, method), source)

    return [partial(table, method) for method in methods]
