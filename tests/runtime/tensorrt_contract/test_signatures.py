"""Docstrings as pybind11 writes them: these are TensorRT's."""

import pytest
from tensorrt_contract.signatures import Parameter, signatures, split


def _documented(text):
    def function():
        raise NotImplementedError

    function.__doc__ = text
    return function


def _one(text):
    (signature,) = signatures(_documented(text))
    return signature


def test_method():
    signature = _one("create_network(self: m.Builder, flags: int = 0) -> m.INetworkDefinition\n\n\n    Create one.\n")
    assert signature.parameters == (Parameter("self", "m.Builder"), Parameter("flags", "int", "0"))
    assert signature.returns == "m.INetworkDefinition"


def test_accessor_of_a_property_has_no_name():
    assert _one("(arg0: m.IBuilderConfig, arg1: int) -> None\n").without_self().parameters == (
        Parameter("arg1", "int"),
    )


def test_default_with_brackets():
    strategy = _one("create(self: m.E, strategy: m.S = <S.STATIC: 0>, sizes: List[int] = [1, 2]) -> m.C").parameters[1:]
    assert strategy == (Parameter("strategy", "m.S", "<S.STATIC: 0>"), Parameter("sizes", "List[int]", "[1, 2]"))


def test_overloads():
    first, second = signatures(
        _documented(
            "format(*args, **kwargs)\nOverloaded function.\n\n1. format(self: m.E, name: str) -> m.F\n\n\n"
            "    :arg name: (not a name) -> None\n\n2. format(self: m.E, name: str, profile_index: int) -> m.F\n"
        )
    )
    assert [len(each.parameters) for each in (first, second)] == [2, 3]


@pytest.mark.parametrize("text", [None, "", "Return nothing.", "A list (of any) -> what it holds."])
def test_ordinary_docstring_has_no_signature(text):
    assert signatures(_documented(text)) == ()


def test_split_leaves_brackets_whole():
    assert split("Tuple[List[int], bool], x: <S.A: 0>,", ",") == ["Tuple[List[int], bool]", "x: <S.A: 0>"]


class TestBind:
    SIGNATURE = _one("shape(self: m.P, input: str, min: m.Dims, max: m.Dims = None) -> bool").without_self()

    def test_positions_and_keywords(self):
        bound = self.SIGNATURE.bind(("image",), {"min": (1,)})
        assert [(parameter.name, value) for parameter, value in bound] == [("input", "image"), ("min", (1,))]

    @pytest.mark.parametrize(
        ("args", "kwargs", "reason"),
        [
            ((), {}, "no argument 'input'"),
            (("image",), {"max": (1,)}, "no argument 'min'"),
            (("image", 1, 2, 3), {}, "4 positional arguments for 3 parameters"),
            (("image", 1), {"mxa": 2}, "unexpected keyword mxa"),
            (("image", 1), {"input": "logits"}, "unexpected keyword input"),
        ],
    )
    def test_refuses(self, args, kwargs, reason):
        with pytest.raises(TypeError, match=reason):
            self.SIGNATURE.bind(args, kwargs)

    def test_unnamed_parameter_takes_no_keyword(self):
        signature = _one("node(self: m.P, arg0: int) -> int").without_self()
        assert signature.bind((3,), {})
        with pytest.raises(TypeError, match="no argument 'arg0'"):
            signature.bind((), {"arg0": 3})
