"""A result from its file, held against the published form before anything is believed of it."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from quillrt.runtime.errors import DataError
from quillrt.runtime.files import read_bounded
from quillrt.runtime.strict_json import read_json

from .measured import Accuracy, Measured
from .results import SCHEMA_VERSION, Result

_LEAST_MS, _MOST = 1e-9, 1e15  # of a time in ms, and of a rate's figure, that no machine goes beyond
_MOST_IMAGES = 10**6  # McNemar's exact test of so many takes a minute
_MOST_BYTES = 2**28  # a long run of many rows, with every query's latency, has 2**24
_TEXT, _COUNT, _CLOCK = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": ["number", "null"]}
_WITHIN_ENVIRONMENT = {  # what the published form leaves open, as far as it is read here
    "device": {
        "type": "object",
        "required": ["cpu", "architecture", "cores", "instructions", "gpus", "gpu_reason"],
        "properties": {
            "cpu": _TEXT,
            "architecture": _TEXT,
            "cores": _COUNT,
            "instructions": {"type": "array", "items": _TEXT},
            "gpus": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": _TEXT}}},
            "gpu_reason": {"type": ["string", "null"]},
        },
    },
    "jetson": {
        "type": ["object", "null"],
        "required": ["power_mode", "power_mode_name", "clocks"],
        "properties": {
            "power_mode_name": {"type": ["string", "null"]},
            "clocks": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["min_freq", "cur_freq", "max_freq"],
                    "properties": dict.fromkeys(("min_freq", "cur_freq", "max_freq"), _CLOCK),
                },
            },
        },
    },
}
_DEVICE_TIMES = {"h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms"}


def load_result(path: Path, *, any_version: bool = False) -> Result:
    """Read a result.

    Args:
        path: a ``result.json`` of ``quillrt bench``, or of ``gpu_check``.
        any_version: also try one that says it has another version of the form.

    Raises:
        DataError: no file, no JSON, another version, not the published form, or a winner that cannot be one.
        ModuleNotFoundError: jsonschema is missing.
    """
    try:
        data = _printable(read_json(read_bounded(path, _MOST_BYTES), _MOST_BYTES))
    except OSError as error:
        raise DataError(f"expected a result at {path}, but {error.strerror}; quillrt bench makes one") from error
    except ValueError as error:
        raise DataError(f"expected a result in JSON, but {path}: {error}; give bench's result.json") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION and not any_version:
        raise DataError(
            f"expected a result with schema_version {SCHEMA_VERSION}, found {version!r} in {path}; measure it again"
        )
    _check_form(data, path, {} if version == SCHEMA_VERSION else {"schema_version": SCHEMA_VERSION})
    for row in data["rows"]:
        for each in row["measured"]["rounds"] if row["measured"] else ():
            each.setdefault("latencies_ns", [])  # a summary has none
    try:
        result: Result = _build(Result, data)
        _check_sense(result, path)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"expected a result of quillrt bench, but {path} lacks {error}; measure it again") from error
    return result


def _printable(value: Any) -> Any:
    """Return JSON's ``value`` with a space for each character that would steer a terminal rather than be seen."""
    if isinstance(value, str):
        return "".join(each if each.isprintable() else " " for each in value)
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list) and any(isinstance(each, str | dict | list) for each in value):
        return [_printable(each) for each in value]
    return value


def _check_form(data: Any, path: Path, instead: Mapping[str, Any]) -> None:
    """Raise unless ``data``, with some values put ``instead`` of its own, has the published form.

    The single latencies, hundreds of thousands, are looked at here: jsonschema would take seconds for them.
    """
    import jsonschema

    schema = json.loads((files("quillrt.benchmarks") / "result.schema.json").read_text(encoding="utf-8"))
    schema["$defs"]["environment"]["properties"].update(_WITHIN_ENVIRONMENT)
    light = {**data, **instead} if isinstance(data, dict) else data
    with suppress(KeyError, TypeError, AttributeError):  # not of the form: jsonschema says in what
        light = {**light, "rows": [_without_latencies(row) for row in light["rows"]] or light["rows"]}
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(light))
    if error is not None:
        where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        said = error.message if len(error.message) < 200 else f"{error.message[:200]}…"
        raise DataError(
            f"expected a result of quillrt bench, but {path} is malformed at result{where}: {said}; measure it again"
        )


def _without_latencies(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose rounds have no latencies where all of them are whole numbers from 0 on."""
    if row["measured"] is None:
        return row
    rounds = []
    for each in row["measured"]["rounds"]:
        times = each.get("latencies_ns", [])
        good = isinstance(times, list) and all(type(time) is int and time >= 0 for time in times)
        rounds.append({**each, "latencies_ns": []} if good else each)
    return {**row, "measured": {**row["measured"], "rounds": rounds}}


def _build(kind: Any, value: Any) -> Any:
    """Return JSON's ``value`` as the type ``kind``; what a dataclass derives from its fields is left out."""
    if value is None or kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        given = [each for each in fields(kind) if each.name in value or _needed(each)]
        return kind(**{each.name: _build(hints[each.name], value[each.name]) for each in given})
    arguments = get_args(kind)
    if get_origin(kind) in (types.UnionType, Union):
        return _build(arguments[0], value)  # every union here is of one type and None
    if get_origin(kind) is tuple:
        if arguments[0] is int:
            return tuple(value)
        return tuple(_build(arguments[0], each) for each in value)
    if get_origin(kind) is Mapping:
        return {arguments[0](key): _build(arguments[1], each) for key, each in value.items()}
    return kind(value) if kind in (float, int) else value  # JSON's schema takes 1.0 for a whole number


def _needed(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _check_sense(result: Result, path: Path) -> None:
    """Raise where the form is right, but what it says cannot be so."""
    verdicts = {(row.batch, row.name): row.verdict for row in result.rows}
    if len(verdicts) < len(result.rows):
        raise DataError(f"expected each row once, by name and batch size, found one twice in {path}; measure it again")
    for each in result.winners:
        for name in (each.name, *each.tied):
            if name is not None and verdicts.get((each.batch, name), "not run") in ("wrong", "not run"):
                raise DataError(
                    f"expected a winner that ran and answered right, found {name} at batch {each.batch} in {path}, "
                    "which did not; measure it again"
                )
    for row in result.rows:
        if row.measured and row.measured.accuracy:
            _check_accuracy(row.measured.accuracy, f"{row.name} in {path}")
        if row.measured:
            _check_rounds(row.measured, result.settings["builds"], f"{row.name} in {path}")
        if row.measured and row.measured.device_ms is not None and not row.measured.device_ms.keys() >= _DEVICE_TIMES:
            raise DataError(f"expected {', '.join(sorted(_DEVICE_TIMES))} of {row.name} in {path}; measure it again")


def _check_rounds(measured: Measured, builds: int, whose: str) -> None:
    """Raise unless each round has figures that can be, and ran in one of the builds."""
    metric, rounds = measured.metric, measured.rounds
    if len(metric.rounds) != len(rounds):
        raise DataError(
            f"expected figures of the {len(rounds)} rounds of {whose}, found {len(metric.rounds)}; measure it again"
        )
    least = 0.0 if metric.higher_is_better else _LEAST_MS  # a round may hold no rate, and takes its time all the same
    for low, figure in (*((least, x) for x in metric.rounds), *((_LEAST_MS, each.median_ms) for each in rounds)):
        if not low <= figure <= _MOST:
            raise DataError(f"expected times above 0 that can be of {whose}, found {figure:g}; measure it again")
    for each in rounds:
        if each.build >= builds:
            raise DataError(f"expected builds 0 to {builds - 1} of {whose}, found {each.build}; measure it again")


def _check_accuracy(accuracy: Accuracy, whose: str) -> None:
    """Raise unless its counts fit each other, and as many images are said to be wrong as are not right, each once."""
    if not 0 <= accuracy.right <= accuracy.images in range(1, _MOST_IMAGES + 1):
        raise DataError(
            f"expected an accuracy on 1 to {_MOST_IMAGES:,} images, found {accuracy.right:g} of "
            f"{accuracy.images:g} right of {whose}; measure it again"
        )
    if not accuracy.low <= accuracy.high:
        raise DataError(
            f"expected the lower end of an accuracy's interval first, found {accuracy.low:g} and {accuracy.high:g} of "
            f"{whose}; measure it again"
        )
    if accuracy.wrong is None:
        return
    wrong, found = accuracy.images - accuracy.right, accuracy.wrong
    if len(found) != wrong or len(set(found)) != wrong:
        raise DataError(
            f"expected the numbers of {wrong} wrong images of {whose}, found {len(found)}; measure it again"
        )
