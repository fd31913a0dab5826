"""How an engine is to be built: what is read, and what is refused before a builder starts."""

import pytest

from quillrt.runtime.build_options import BuildOptions, Profile
from quillrt.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("1:8:64", ((1,), (8,), (64,))),
        ("8", ((8,), (8,), (8,))),
        ("1x1x28x28:8x1x28x28:64x1x28x28", ((1, 1, 28, 28), (8, 1, 28, 28), (64, 1, 28, 28))),
    ],
)
def test_shapes_are_read(text, shapes):
    profile = Profile.parse(text)
    assert (profile.smallest, profile.best, profile.largest) == shapes
    assert Profile.parse(str(profile)) == profile


@pytest.mark.parametrize("text", ["", "x", "1:2", "1:8:64:128", "0:1:2", "4:2:8", "1:8x1:64", "-1:2:3", "1.5"])
def test_what_are_no_shapes_is_refused(text):
    with pytest.raises(ConfigError, match="expected shapes"):
        Profile.parse(text)


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({"profiles": ()}, "at least one profile"),
        ({"workspace_bytes": 0}, "a workspace of 1 to"),
        ({"workspace_bytes": 2**63}, "a workspace of 1 to"),
        ({"max_aux_streams": 2**31}, "auxiliary streams of 0 to"),
        ({"compute_capabilities": ("8.9", "8.9")}, r"each compute capability once, found 8\.9, 8\.9"),
        ({"optimization_level": 6}, "from 0 to 5, found 6"),
        ({"hardware_compatibility": "turing"}, "out of ampere-plus, same-compute-capability, found 'turing'"),
        ({"verbosity": "loud"}, "out of detailed, layer-names, none, found 'loud'"),
        ({"gpu_fallback": True}, "expected --dla-core beside --gpu-fallback"),
        ({"dla_core": -1}, "DLA core of 0 to"),
        ({"max_aux_streams": -1}, "auxiliary streams of 0 to"),
    ],
)
def test_settings_out_of_range(settings, phrase):
    with pytest.raises(ConfigError, match=phrase):
        BuildOptions(**settings)


def test_only_what_was_changed_is_told():
    assert BuildOptions().changed == {}
    assert BuildOptions(tf32=True, dla_core=0).changed == {"tf32": True, "dla_core": 0}
