"""What doctor tells of a Jetson, and what it advises there."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from quillrt.cli.console import print_table

if TYPE_CHECKING:
    from quillrt.runtime.jetpack import JetPack
    from quillrt.runtime.jetson import Jetson

_UNKNOWN = "not known"


def jetson_report() -> dict[str, Any]:
    """Return as plain JSON values what Jetson this is, its TensorRT, and hints; empty on every other machine."""
    from quillrt.runtime.errors import BackendUnavailable
    from quillrt.runtime.jetpack import jetpack_of
    from quillrt.runtime.jetson import read_jetson
    from quillrt.runtime.tensorrt_api import load

    jetson = read_jetson()
    if jetson is None:
        return {}
    release = jetpack_of(jetson.l4t, jetson.jetpack)
    try:
        tensorrt, why = load("tensorrt").version, None
    except BackendUnavailable as error:
        tensorrt, why = None, str(error)
    return {
        **asdict(jetson),
        "brings": release and asdict(release),
        "tensorrt": tensorrt,
        "why_no_tensorrt": why,
        "hints": hints(jetson, release, tensorrt),
    }


def hints(jetson: Jetson, release: JetPack | None, tensorrt: str | None) -> list[str]:
    """Return what to do on this Jetson, a line each; ``tensorrt`` is the version this Python has, if it works."""
    from quillrt.runtime.jetpack import same_release, without_dla
    from quillrt.runtime.tensorrt_api import supported

    found = []
    brought = jetson.system_tensorrt or (release.tensorrt if release else None)
    if tensorrt is None and brought and not supported("tensorrt", brought):
        found.append(
            f"JetPack's TensorRT {brought} is older than quillrt needs: use JetPack 6.1 or later, if the board takes "
            "it, or a backend of the processor"
        )
    elif tensorrt is None and jetson.system_tensorrt:
        found.append(
            f"this Python does not see the system's TensorRT {jetson.system_tensorrt}: make the virtual environment by "
            "/usr/bin/python3 -m venv --system-site-packages .venv"
        )
    elif tensorrt is None:
        found.append("TensorRT for Python is not installed: sudo apt install nvidia-jetpack")
    elif brought and not same_release(tensorrt, brought):
        found.append(
            f"this Python has TensorRT {tensorrt}, JetPack's is {brought}: an engine fits its builder's version alone"
        )
    version = tensorrt or brought
    if jetson.dla_cores and version and without_dla(version):
        found.append(f"TensorRT {version} does not use the DLA cores; up to 10.7 did, and 11.4.1 does on AGX Orin")
    fastest = jetson.fastest_mode
    if fastest is None:
        found.append("before measuring: sudo nvpmodel -m NUMBER; sudo nvpmodel -p --verbose lists the modes")
    elif fastest != jetson.power_mode:
        found.append(f"before measuring: sudo nvpmodel -m {fastest} ({jetson.power_modes[fastest]})")
    found.append("before measuring, after each start and each change of mode: sudo jetson_clocks")
    return found


def print_jetson(report: dict[str, Any]) -> None:
    """Draw the table of what ``jetson_report`` returned; nothing of an empty one."""
    if not report:
        return
    brings = report["brings"]
    brought = "CUDA {cuda}, TensorRT {tensorrt}, Python {python}".format(**brings) if brings else _UNKNOWN
    cores = report["dla_cores"]
    rows = [
        ("board", report["model"] or _UNKNOWN),
        ("SoC", f"{report['soc'] or _UNKNOWN}, compute capability {report['compute_capability'] or _UNKNOWN}"),
        ("Jetson Linux (L4T)", report["l4t"] or _UNKNOWN),
        ("JetPack", report["jetpack"] or _UNKNOWN),
        ("JetPack brings", brought),
        ("TensorRT of the system's Python", report["system_tensorrt"] or "none"),
        ("TensorRT of this Python", report["tensorrt"] or report["why_no_tensorrt"]),
        ("DLA cores", _UNKNOWN if cores is None else str(cores)),
        ("power mode", _power_mode(report["power_mode"], report["power_modes"])),
        *(("hint", hint) for hint in report["hints"]),
    ]
    print_table("Jetson", ("", ""), rows)


def _power_mode(number: int | None, names: dict[int, str]) -> str:
    if number is None:
        return f"{_UNKNOWN}: sudo nvpmodel -q"
    return f"{number} ({names.get(number, _UNKNOWN)})"
