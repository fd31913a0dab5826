import json
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from quillrt.benchmarks.running import Settings
from quillrt.cli.options import Config, DataRoot, Debug, Json, Seed, Threads, precision_of, save_config
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.precision import Precision
from quillrt.runtime.session import SessionOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

app = typer.Typer()


@app.callback()
def root():
    """So that `verb` is a verb of its own, as in quillrt."""


@app.command()
def verb(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument()],
    save: Annotated[Path | None, typer.Option("--save")] = None,
    names: Annotated[list[str] | None, typer.Option("--name")] = None,
    rate: Annotated[float, typer.Option("--rate", min=0)] = 0.5,
    title: Annotated[str, typer.Option("--title", "-t")] = "",
    data_root: DataRoot = None,
    threads: Threads = None,
    seed: Seed = 0,
    as_json: Json = False,
    config: Config = None,
    debug: Debug = False,
):
    if save is not None:
        save_config(ctx, save)
    found = (str(source), names or [], rate, title, str(data_root), threads, seed, as_json)
    typer.echo(json.dumps(found))


def invoke(*arguments):
    return CliRunner().invoke(app, ["verb", *map(str, arguments)])


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("QUILLRT_DATA", raising=False)


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_config_file_gives_defaults_and_flags_win(config):
    path = config('[verb]\nrate = 0.25\nseed = 7\nname = ["a", "b"]\njson = true\n')

    assert json.loads(invoke("x", "--config", path).stdout) == ["x", ["a", "b"], 0.25, "", "None", None, 7, True]
    assert json.loads(invoke("x", "--config", path, "--seed", 8, "--name", "c").stdout)[1:7:5] == [["c"], 8]
    assert json.loads(invoke("x", "--seed", 8, "--config", path).stdout)[6] == 8


@pytest.mark.parametrize("text", ["[vreb]\nrate = 1\n", "rate = 1\n"], ids=["misspelt", "without a table"])
def test_what_no_verb_would_read_is_wrong_usage(config, text):
    result = invoke("x", "--config", config(text))

    assert result.exit_code == 2
    assert "expected a table per verb" in " ".join(result.output.replace("│", "").split())


def test_what_is_saved_reads_back_the_same(tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    given_ = ["--rate", "1e-05", "-t", 'say "é"\\\n\t', "--name", "a b", "--name", "🖋", "--threads", 2, "--json"]

    asked = invoke("model.quill", "--save", first, "--data-root", tmp_path / "data", *given_)
    again = invoke("--config", first, "--save", second)

    assert asked.exit_code == again.exit_code == 0
    assert json.loads(again.stdout) == json.loads(asked.stdout)
    assert json.loads(again.stdout)[2] == 1e-05
    assert set(tomllib.loads(first.read_text())) == {"verb"}
    assert first.read_text().replace("first", "second") == second.read_text()


@given(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"])),
    st.floats(0, allow_infinity=False),
    st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1)),
)
def test_any_title_rate_and_names_read_back_the_same(tmp_path_factory, title, rate, names):
    path = Path(tmp_path_factory.mktemp("config")) / "saved.toml"
    flags = [f"--name={name}" for name in names]

    asked = invoke("x", f"--title={title}", f"--rate={rate!r}", *flags, "--save", path)

    assert asked.exit_code == 0, asked.stderr
    assert invoke("--config", path).stdout == asked.stdout


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("[verb]\nspeed = 3\n", "speed"),
        ("verb = 3\n", "found verb = 3"),
        ("[verb]\nrate = 'fast'\n", "'--rate'"),
        ("[verb]\nrate = -1\n", "'--rate'"),
        ("[verb]\nseed = 1.5\n", "'1.5' is not a valid int"),
        ("[verb]\nrate = true\n", "'True' is not a valid float"),
        ("[verb]\nseed = 1979-05-27\n", "'1979-05-27' is not a valid int"),
        ("[verb]\njson = 'yes'\n", "expected json = true or false, found 'yes'"),
        ("[verb]\nseed = [1, 2]\n", "expected one value of seed, found [1, 2]"),
        ("[verb]\nconfig = 'other.toml'\n", "has config; it may have"),
        ("[verb\n", "expected a TOML file"),
        (b"\xff\xfe", "expected a TOML file"),
    ],
)
def test_a_wrong_config_is_wrong_usage(config, text, phrase):
    result = invoke("x", "--config", config(text))

    assert result.exit_code == 2
    assert result.stdout == ""
    assert phrase in result.stderr.replace("│", "").replace("\n", " ")


def test_one_value_of_an_option_that_takes_several(config):
    assert json.loads(invoke("x", "--config", config("[verb]\nname = 'ab'\n")).stdout)[1] == ["ab"]


def test_a_missing_config_is_wrong_usage(tmp_path):
    result = invoke("x", "--config", tmp_path / "absent.toml")

    assert result.exit_code == 2
    assert "expected a TOML file" in result.stderr


def test_data_root_comes_from_the_flag_or_the_environment_or_the_file(monkeypatch, tmp_path, config):
    path = config('[verb]\ndata-root = "/from/file"\n')

    assert json.loads(invoke("x", "--config", path).stdout)[4] == "/from/file"
    monkeypatch.setenv("QUILLRT_DATA", "/from/environment")
    assert json.loads(invoke("x", "--config", path).stdout)[4] == "/from/environment"
    assert json.loads(invoke("x", "--data-root", tmp_path).stdout)[4] == str(tmp_path)


def test_a_precision_is_parsed_and_none_stays_none():
    assert precision_of("int8") is Precision.INT8
    assert precision_of(None) is None
    with pytest.raises(ConfigError):
        precision_of("int7")


@pytest.mark.parametrize("verb", ["run", "evaluate", "bench"])
def test_the_gpu_that_is_asked_for_is_the_sessions(monkeypatch, quillrt, quadrants_bundle, tmp_path, verb):
    asked = []

    def stop(*given):
        asked.extend(each.device for each in given if isinstance(each, SessionOptions | Settings))
        raise ConfigError("enough")

    monkeypatch.setattr("quillrt.runtime.select.open_fitting", stop)
    monkeypatch.setattr("quillrt.benchmarks.bench.measure", stop)
    more = {"run": ["image.png"], "evaluate": [], "bench": ["--output", tmp_path / "bench"]}[verb]
    result = quillrt(verb, quadrants_bundle, *more, "--device", 1)

    assert result == (1, "", "quillrt: error: enough\n")
    assert asked == [1]
