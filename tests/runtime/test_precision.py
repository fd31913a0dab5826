import pytest

from quillrt.runtime.errors import ConfigError
from quillrt.runtime.precision import Precision


@pytest.mark.parametrize("precision", list(Precision))
def test_each_precision_is_found_by_its_name(precision):
    assert Precision.parse(precision.value) is precision


@pytest.mark.parametrize("name", ["", "FP32", "int4", "float16"])
def test_an_unknown_precision_is_refused_with_the_list_of_known_ones(name):
    with pytest.raises(ConfigError, match=f"fp32, tf32, fp16, bf16, int8, fp8, mixed, found '{name}'"):
        Precision.parse(name)
