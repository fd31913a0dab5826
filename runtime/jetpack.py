"""JetPack, NVIDIA's software for Jetson boards: which Jetson Linux (L4T) it is, and what it brings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JetPack:
    """One JetPack release.

    Attributes:
        l4t: its Jetson Linux, as ``/etc/nv_tegra_release`` tells.
        version: its own.
        cuda: its CUDA.
        tensorrt: its TensorRT.
        python: its system's Python, the only one its TensorRT's bindings are for.
    """

    l4t: str
    version: str
    cuda: str
    tensorrt: str
    python: str


# NVIDIA's JetPack archive, jetson-containers and, from 7.0 on, the packages in NVIDIA's repository for each L4T.
RELEASES = (
    *(
        JetPack(l4t, version, "11.4", "8.5.2", "3.8")
        for l4t, version in (
            *(("35.2.1", "5.1"), ("35.3.1", "5.1.1"), ("35.4.1", "5.1.2"), ("35.5.0", "5.1.3")),
            *(("35.6.0", "5.1.4"), ("35.6.1", "5.1.5"), ("35.6.2", "5.1.5")),
        )
    ),
    JetPack("36.3.0", "6.0", "12.2", "8.6.2", "3.10"),
    *(
        JetPack(l4t, version, "12.6", "10.3.0", "3.10")
        for l4t, version in (
            *(("36.4.0", "6.1"), ("36.4.3", "6.2"), ("36.4.4", "6.2.1"), ("36.4.7", "6.2.1")),
            *(("36.5.0", "6.2.2"), ("36.5.2", "6.2.3")),
        )
    ),
    *(
        JetPack(l4t, version, "13.0", "10.13.3", "3.12")
        for l4t, version in (("38.2.0", "7.0"), ("38.2.1", "7.0"), ("38.2.2", "7.0"), ("38.4.0", "7.1"))
    ),
    *(JetPack(l4t, version, "13.2", "10.16.2", "3.12") for l4t, version in (("39.2.0", "7.2"), ("39.2.1", "7.2.1"))),
)


def jetpack_of(l4t: str | None, version: str | None) -> JetPack | None:
    """Return the release with Jetson Linux ``l4t``, or else JetPack's ``version``; ``None`` if neither is known."""
    by_l4t = (release for release in RELEASES if release.l4t == l4t)
    by_version = (release for release in RELEASES if release.version == version)
    return next(by_l4t, None) or next(by_version, None)


def without_dla(tensorrt: str) -> bool:
    """Tell whether this version of TensorRT leaves a Jetson's deep learning accelerators alone.

    10.7 was the last of 10 that has them, and 11.4.1 has them again, on Jetson AGX Orin (NVIDIA, "Working with DLA").
    """
    return (10, 8) <= _numbers(tensorrt) < (11, 4, 1)


def same_release(one: str, other: str) -> bool:
    """Tell whether two versions of TensorRT agree in the first three numbers, which are all that Python tells."""
    return _numbers(one)[:3] == _numbers(other)[:3]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
