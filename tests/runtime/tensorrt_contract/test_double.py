"""What a double lets pass, on a small module with docstrings as pybind11 writes them."""

import enum
import types

import numpy as np
import pytest
from tensorrt_contract.double import double_of


def _pybind(text):
    """Return a function as pybind11's: all that is known of it is the docstring, with ``m.`` for the module."""

    def function(*args):
        raise NotImplementedError("needs the library")

    function.__doc__ = text
    return function


class Flag(enum.Enum):
    TF32 = 6


class ILogger:
    def __init__(self):
        """__init__(self: m.ILogger) -> None"""

    log = _pybind("log(self: m.ILogger, severity: m.Flag, msg: str) -> None")


class Dims:
    def __init__(self, shape):
        """__init__(self: m.Dims, shape: List[int]) -> None"""
        self.shape = tuple(shape)

    def __eq__(self, other):
        return self.shape == tuple(other)

    __hash__ = None


class Config:
    level = property(_pybind("(arg0: m.Config) -> int"), _pybind("(arg0: m.Config, arg1: int) -> None"))
    name = property(_pybind("(arg0: m.Config) -> str"))
    allocator = property(None, _pybind("(arg0: m.Config, arg1: m.Config) -> None"))
    logger = property(_pybind("(arg0: m.Config) -> m.ILogger"), _pybind("(arg0: m.Config, arg1: m.ILogger) -> None"))
    parent = property(_pybind("(arg0: m.Config) -> m.Config"))
    shape = property(_pybind("(arg0: m.Config) -> m.Dims"))
    set_flag = _pybind("set_flag(self: m.Config, flag: m.Flag) -> None")
    get_flags = _pybind("get_flags(self: m.Config) -> List[m.Flag]")
    set_shape = _pybind("set_shape(self: m.Config, input: str, min: m.Dims, max: m.Dims = None) -> bool")
    set_limit = _pybind(
        "set_limit(self: m.Config, size: typing.SupportsInt, ratio: typing.SupportsFloat = 1.0) -> bool"
    )
    set_strict = _pybind("set_strict(self: m.Config, strict: bool) -> None")
    parse = _pybind("parse(self: m.Config, model: buffer, path: str = None) -> bool")
    __len__ = _pybind("__len__(self: m.Config) -> int")


class Memory:
    nbytes = property(_pybind("(arg0: m.Memory) -> int"))


class Builder:
    __init__ = _pybind("__init__(self: m.Builder, logger: m.ILogger) -> None")
    create_config = _pybind("create_config(self: m.Builder) -> m.Config")
    build = _pybind(
        "build(*args, **kwargs)\nOverloaded function.\n\n1. build(self: m.Builder, config: m.Config) -> m.Memory\n\n"
        "2. build(self: m.Builder, config: m.Config, cache: typing_extensions.Buffer) -> m.Memory\n"
    )


MODULE = types.SimpleNamespace(
    __name__=__name__,
    __version__="12.0",
    **{cls.__name__: cls for cls in (Flag, ILogger, Dims, Config, Memory, Builder)},
)


class Logger(ILogger):
    def log(self, severity, msg):
        pass


Logger.__module__ = "elsewhere"  # as a caller's is


def _config(**answers):
    answers = {name.replace("_of_", "."): answer for name, answer in answers.items()}
    return double_of(MODULE, answers).Builder(Logger()).create_config()


class TestModule:
    def test_enumerations_and_plain_classes_are_the_real_ones(self):
        double = double_of(MODULE, {})
        assert (double.Flag, double.Dims, double.ILogger) == (Flag, Dims, ILogger)

    def test_lacks_what_the_module_lacks(self):
        double = double_of(MODULE, {})
        with pytest.raises(AttributeError, match="Calibrator"):
            _ = double.Calibrator
        with pytest.raises(AttributeError, match="INT8"):
            _ = double.Flag.INT8
        with pytest.raises(AttributeError, match=r"TensorRT 12\.0: nothing assigns Flag"):
            double.Flag = Flag

    def test_constructor_checks_its_arguments(self):
        double = double_of(MODULE, {})
        assert isinstance(double.Builder(logger=Logger()), Builder)
        for arguments in ((), ("stderr",), (Logger(), 0)):
            with pytest.raises(TypeError, match=r"TensorRT 12\.0: Builder refuses"):
                double.Builder(*arguments)

    def test_constructor_may_fail(self):
        def refuse(logger):
            raise TypeError("factory function returned nullptr")

        with pytest.raises(TypeError, match="nullptr"):
            double_of(MODULE, {"Builder.__init__": refuse}).Builder(Logger())

    def test_hasattr_on_class_and_object(self):
        double = double_of(MODULE, {})
        builder = double.Builder(Logger())
        for owner in (double.Builder, builder):
            assert hasattr(owner, "create_config")
            assert not hasattr(owner, "create_cache")


class TestSubclass:
    def test_other_parameters_are_refused(self):
        wrong = type("Wrong", (ILogger,), {"log": lambda self, text: None, "__module__": "elsewhere"})
        with pytest.raises(TypeError, match="too many positional"):
            double_of(MODULE, {}).Builder(wrong())

    def test_misspelt_method_is_refused(self):
        wrong = type("Wrong", (ILogger,), {"logs": Logger.log, "__module__": "elsewhere"})
        with pytest.raises(TypeError, match="Wrong overrides no method of ILogger"):
            double_of(MODULE, {}).Builder(wrong())


class TestProperties:
    def test_reads_back_what_was_written(self):
        config = _config()
        assert config.level == 0
        config.level = 3
        assert config.level == 3

    def test_gives_the_same_object_again(self):
        config = _config()
        assert isinstance(config.parent, Config)
        assert config.parent is config.parent

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("max_workspace_size", 1, AttributeError),  # unknown
            ("name", "x", AttributeError),  # read-only
            ("set_flag", None, AttributeError),  # a method
            ("level", 1.5, TypeError),
            ("level", "3", TypeError),
            ("logger", 3, TypeError),
        ],
    )
    def test_refuses_assignments(self, name, value, error):
        with pytest.raises(error, match=rf"TensorRT 12\.0: Config.* {name}|Config\.{name}"):
            setattr(_config(), name, value)

    def test_write_only_is_not_read(self):
        with pytest.raises(AttributeError, match="can only be written"):
            _ = _config().allocator

    def test_unknown_is_not_read(self):
        with pytest.raises(AttributeError, match=r"TensorRT 12\.0: Config has no num_bindings"):
            _ = _config().num_bindings


class TestCalls:
    @pytest.mark.parametrize(
        ("name", "args", "kwargs"),
        [
            ("set_flag", (Flag.TF32,), {}),
            ("set_shape", ("image", (1, 2), Dims((1, 2))), {}),
            ("set_shape", ("image",), {"max": [2, 2], "min": [1, 2]}),
            ("set_shape", ("image", (1, 2), None), {}),
            ("set_limit", (1 << 40,), {}),
            ("set_limit", (np.int64(3), 2), {}),
            ("set_strict", (False,), {}),
            ("parse", (b"graph",), {}),
            ("parse", (memoryview(b"graph"), None), {}),
            ("parse", (np.zeros(3), "model.onnx"), {}),
        ],
    )
    def test_takes(self, name, args, kwargs):
        getattr(_config(), name)(*args, **kwargs)

    @pytest.mark.parametrize(
        ("name", "args", "kwargs"),
        [
            ("set_flag", (6,), {}),  # a number for an enumeration
            ("set_flag", (None,), {}),
            ("set_flag", (Flag.TF32, True), {}),  # too many
            ("set_flag", (), {}),  # too few
            ("set_flag", (), {"flags": Flag.TF32}),  # a wrong keyword
            ("set_shape", ("image", (1, "N")), {}),
            ("set_shape", (b"image", (1, 2)), {}),
            ("set_limit", (0.5,), {}),
            ("set_limit", (1, "half"), {}),
            ("set_strict", (1,), {}),
            ("parse", ("model.onnx",), {}),  # a path for its content
        ],
    )
    def test_refuses(self, name, args, kwargs):
        with pytest.raises(TypeError, match=rf"TensorRT 12\.0: Config.{name} refuses its arguments"):
            getattr(_config(), name)(*args, **kwargs)

    def test_any_overload_will_do(self):
        builder = double_of(MODULE, {}).Builder(Logger())
        config = builder.create_config()
        assert isinstance(builder.build(config), Memory)
        assert isinstance(builder.build(config, b"cache"), Memory)
        with pytest.raises(TypeError, match=r"no argument 'config'.*; no argument 'config'"):
            builder.build()


class TestAnswers:
    def test_default_is_the_first_of_its_type(self):
        config = _config()
        assert (config.name, config.set_limit(1), config.get_flags(), config.set_flag(Flag.TF32)) == (
            "",
            True,
            [],
            None,
        )

    def test_preset(self):
        config = _config(Config_of_level=4, Config_of_set_shape=lambda name, *shapes: name == "image")
        assert config.level == 4
        assert config.set_shape("image", (1,)) is True
        assert config.set_shape("logits", (1,)) is False

    def test_shape_comes_as_the_modules_own(self):
        shape = _config(Config_of_shape=(-1, 28)).shape
        assert isinstance(shape, Dims)
        assert shape == (-1, 28)

    def test_preset_of_another_type_is_refused(self):
        with pytest.raises(AssertionError, match="expected a preset answer of type int, found 'four'"):
            _ = _config(Config_of_level="four").level

    def test_special_methods(self):
        assert len(_config(Config_of___len__=5)) == 5
        with pytest.raises(TypeError):
            _config()[0]

    def test_bytes_stand_for_an_object_with_a_buffer(self):
        builder = double_of(MODULE, {"Builder.build": b"plan", "Memory.nbytes": 4}).Builder(Logger())
        memory = builder.build(builder.create_config())
        assert isinstance(memory, Memory)
        assert (bytes(memory), memory.nbytes, memoryview(memory).nbytes) == (b"plan", 4, 4)
        for misuse in (len, iter, lambda memory: memory[0], lambda memory: memory.hex()):
            with pytest.raises((TypeError, AttributeError)):
                misuse(memory)
