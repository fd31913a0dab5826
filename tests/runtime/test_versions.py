import numpy
import PIL

from quillrt.runtime.versions import versions


def test_installed_packages_have_the_version_they_tell_themselves():
    assert versions("numpy", "pillow") == {"numpy": numpy.__version__, "pillow": PIL.__version__}


def test_a_package_that_is_not_installed_is_left_out():
    assert versions("no-such-package-of-quillrt") == {}


def test_quillrt_always_has_a_version():
    assert versions("quillrt").keys() == {"quillrt"}
