"""`run --on ray`: the same rows by Ray Data, on this machine or on a cluster.

Tasks read and fit images, actors that hold a session each recognize them, and the rows go to a folder of Parquet files.
Ray's own reader of binary files is not used: it skips names that begin with . or _, and one file that cannot be read
ends its job, where here it is a row. The process that starts the job holds all names while it runs.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import remote_files
from .arrow import load, table
from .bulk import batch_logits, rows_of
from .bundle import Bundle
from .cache import NO_CACHE, Cache
from .decoding import Decoded, decode
from .device import cores
from .errors import BundleError, ConfigError, QuillError, WorkerError
from .files import check_free, folder_written_whole
from .precision import Precision
from .prepare import NOT_CHOSEN, Way
from .preprocessing import Preprocessing
from .rows import Choices
from .select import open_fitting
from .session import SessionOptions

DONE = "_SUCCESS"  # as Hadoop and Spark call it; readers of Parquet folders skip names that begin with _
INDEX = "index"  # the column that gives the order of the plain run
_BATCHES_AT_ONCE = 16  # of a task, and what is done again where a process is lost
_FETCHES = 8  # from a remote place, at the same time

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """What each actor opens.

    Attributes:
        backend: as for ``open_fitting``, with ``precision``, ``options`` and ``cache``.
        precision: as ``backend``.
        options: as ``backend``, but for the device, which Ray chooses.
        cache: as ``backend``.
        choices: what makes rows of predictions.
    """

    backend: str | None = None
    precision: Precision | None = None
    options: SessionOptions = SessionOptions()
    cache: Cache = NO_CACHE
    choices: Choices = field(default_factory=Choices)


class Actor:
    """A process with a session.

    Args:
        content: Ray's reference to the bundle's bytes, in a list, for another machine need not have its file.
        sha256: its fingerprint where it was opened, and its signature checked if that was asked for.
        model: what to open of it.

    Raises:
        QuillError: as ``open_fitting``; or the bundle is another.
    """

    def __init__(self, content: Any, sha256: str, model: Model) -> None:
        with tempfile.NamedTemporaryFile(suffix=".quill") as file:
            file.write(_ray().get(content[0]))
            file.flush()
            bundle = Bundle.open(Path(file.name))
        if bundle.sha256 != sha256:
            raise BundleError("expected the bundle that was opened, found another in its place; run it again")
        self._choices, self._confidence = model.choices, bundle.manifest.confidence
        options = replace(model.options, device=0)  # Ray shows each actor its own GPU alone
        self._session, entry, chosen = open_fitting(bundle, model.backend, model.precision, options, model.cache)
        self.made_by = {"file": entry.path, "backend": chosen}

    def __call__(self, batch: Columns) -> Any:
        """Return a table of rows, the column ``INDEX`` first, of what ``read`` returned."""
        errors = {place: os.fsdecode(error) for place, error in enumerate(batch["error"]) if error}
        fitted = np.ascontiguousarray(np.delete(batch["fitted"], list(errors), axis=0))
        found = zip(*(batch[name].tolist() for name in Way._fields), strict=True)
        ways = [Way(*each) for place, each in enumerate(found) if place not in errors]
        decoded = Decoded([os.fsdecode(name) for name in batch["image"]], fitted, ways, errors)
        logits = batch_logits(self._session, fitted)
        rows = rows_of(decoded, logits, self._session.spec.labels, self._choices, self._confidence)
        return table(rows).add_column(0, INDEX, [batch[INDEX]])


def try_actor(content: Any, sha256: str, model: Model) -> dict[str, str] | QuillError:
    """Return the file and the backend that actors here run, or why they cannot, which Ray itself tells at length."""
    try:
        return Actor(content, sha256, model).made_by
    except QuillError as error:
        return error


def read(batch: Columns, recipe: Preprocessing, way: str) -> Columns:
    """Return the columns ``INDEX``, ``image``, ``fitted`` uint8 (N, height, width), ``Way``'s and ``error``.

    Names and errors are bytes, for file names need not be text; an unreadable image is black.
    """
    names = [os.fsdecode(name) for name in batch["image"]]
    with ThreadPoolExecutor(_FETCHES) as pool:
        contents = {name: pool.submit(remote_files.content, name) for name in names}
        decoded = decode(names, recipe, way, lambda name: contents[name].result())
    fitted = np.zeros((len(names), recipe.height, recipe.width), np.uint8)
    readable = [place for place in range(len(names)) if place not in decoded.errors]
    fitted[readable] = decoded.fitted
    ways = dict(zip(readable, decoded.ways, strict=True))
    columns = {
        name: np.array([getattr(ways.get(place, NOT_CHOSEN), name) for place in range(len(names))])
        for name in Way._fields
    }
    errors = [os.fsencode(decoded.errors.get(place, "")) for place in range(len(names))]
    return {**batch, **columns, "fitted": fitted, "error": np.array(errors, object)}


def run(
    bundle: Bundle,
    model: Model,
    images: Sequence[str],
    output: str,
    workers: int | None,
    batch_size: int,
    *,
    progress: bool,
) -> tuple[dict[str, str], int, int]:
    """Write a row for each image to Parquet files in the folder ``output``.

    Args:
        bundle: what recognizes them; its file is read again.
        model: what each actor opens of it.
        images: files and folders, by path or address.
        output: a folder that is not there or empty, by path or address; when all is done a path appears, and at an
            address the empty file ``DONE``.
        workers: actors; by default one for each GPU, or else for each core but one, which is left for writing.
        batch_size: images per query.
        progress: let Ray draw its bars on stderr.

    Returns:
        The file and the backend that ran, how many rows there are, and how many of them of unreadable images.

    Raises:
        ConfigError: ray is missing, the cluster is too small or out of reach, or ``output`` is taken or cannot be.
        ImageError: there are no images.
        WorkerError: Ray gave up; the message has its reason.
        QuillError: as ``open_fitting``.
    """
    ray = _ray()
    with _output(output) as folder, _cluster(ray, progress=progress):
        blocks = list(_tables(remote_files.find(images), _BATCHES_AT_ONCE * batch_size))
        gpus, cpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        actors = workers or gpus or max(1, cpus - 1)
        if actors >= cpus:
            raise ConfigError(f"expected fewer workers than the cluster has cores ({cpus}), found {actors}; give fewer")
        needs = {"num_cpus": 1, "num_gpus": 1 if gpus else 0}
        content = ray.put(bundle.path.read_bytes())  # ours to keep: an actor that is started again gets it, too
        made_by = ray.get(ray.remote(**needs)(try_actor).remote([content], bundle.sha256, model))
        if isinstance(made_by, QuillError):
            raise made_by
        fitted = ray.data.from_arrow(blocks).map_batches(
            read,
            batch_size=batch_size,
            fn_kwargs={"recipe": bundle.manifest.model.preprocessing, "way": model.choices.preprocessing},
        )
        rows = fitted.map_batches(
            Actor,
            batch_size=batch_size,
            fn_constructor_kwargs={"content": [content], "sha256": bundle.sha256, "model": model},
            concurrency=min(actors, len(blocks)),
            **needs,
        )
        try:
            rows.write_parquet(folder)
        except (ray.exceptions.RayError, ray.data.exceptions.UserCodeException) as error:
            # A traceback of each process goes before what was raised.
            raise WorkerError(
                f"expected Ray to end the job, but {str(error).strip().splitlines()[-1]}; its logs are in /tmp/ray"
            ) from error
        filesystem, path = remote_files.located(folder)
        found = load("dataset").dataset(path, filesystem=filesystem, format="parquet")
        return made_by, found.count_rows(), found.count_rows(filter=load("compute").field("error").is_valid())


def _tables(names: Iterator[str], at_once: int) -> Iterator[Any]:
    """Yield the names, numbered, in blocks."""
    pa, start = load(), 0
    while some := list(islice(names, at_once)):
        yield pa.table({INDEX: range(start, start + len(some)), "image": [os.fsencode(name) for name in some]})
        start += len(some)


def _ray() -> Any:
    """Return Ray's module with its part for data.

    Raises:
        ConfigError: its package, or pyarrow, is missing.
    """
    load()
    try:
        import_module("ray.data")
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise ConfigError("--on ray needs the package ray: pip install 'quillrt[ray]'") from error


@contextmanager
def _cluster(ray: Any, *, progress: bool) -> Iterator[None]:
    """Join the cluster that this process or ``RAY_ADDRESS`` names, or start one here; what is started ends again.

    Stdout is for results: what Ray prints goes to stderr, and what it logs is left to its own files.

    Raises:
        ConfigError: neither can be done.
    """
    ray.data.DataContext.get_current().enable_progress_bars = progress
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    is_ours = not ray.is_initialized()
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if is_ours:
            address = os.environ.get("RAY_ADDRESS")
            # An actor for each core, and tasks that write now and then. Without "local" Ray looks for a cluster itself.
            here = {} if address else {"address": "local", "num_cpus": cores() + 1, "include_dashboard": False}
            try:
                ray.init(logging_level=logging.CRITICAL, log_to_driver=False, **here)
            except (ValueError, ConnectionError, RuntimeError) as error:
                what, todo = (f"the Ray cluster {address}", "change or unset") if address else ("to start Ray", "set")
                raise ConfigError(f"expected {what}, but {_line(error)}; {todo} RAY_ADDRESS") from error
        try:
            yield
        finally:
            if is_ours:
                ray.shutdown()


@contextmanager
def _output(name: str) -> Iterator[str]:
    """Give the folder to write into: a local one takes its name when all is done, at an address ``DONE`` comes last.

    Raises:
        ConfigError: it is taken, or out of reach.
    """
    if remote_files.is_remote(name):
        try:
            filesystem, path = remote_files.located(name)
            is_taken = bool(filesystem.get_file_info(load("fs").FileSelector(path, allow_not_found=True)))
        except (OSError, ValueError) as error:
            raise ConfigError(f"expected a folder at {name}, but {_line(error)}; check the address") from error
        if is_taken:
            raise ConfigError(f"expected a new or an empty folder, but {name} is not empty; give another --output")
        yield name
        filesystem.open_output_stream(f"{path}/{DONE}").close()
        return
    check_free(Path(name))
    with folder_written_whole(Path(name)) as beside:
        yield str(beside)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
