"""``with_options``, on a small program of its own."""

import inspect
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from quillrt.cli.every_verb import MODULES
from quillrt.cli.main import application
from quillrt.cli.training_options import OPTIONS
from quillrt.cli.verbs import with_options

SHARED = {
    "count": (Annotated[int, typer.Option("--count", "-c", min=1, help="How many.")], 3),
    "names": (Annotated[list[str] | None, typer.Option("--name", help="Who; repeat.")], None),
    "loud": (Annotated[bool, typer.Option("--loud", help="Shout.")], False),
}


@pytest.fixture
def heard():
    return []


@pytest.fixture
def app(heard):
    app = typer.Typer()

    @app.command()
    @with_options(SHARED)
    def greet(ctx: typer.Context, place: Annotated[str, typer.Argument()], size: int = 28, **chosen: Any) -> None:
        """Greet people."""
        heard.append((ctx.info_name, place, size, chosen))

    @app.command()
    @with_options({**SHARED, "count": (SHARED["count"][0], 7)})
    def leave(**chosen: Any) -> None:
        """Leave."""
        heard.append(chosen)

    return app


def call(app, *words):
    return CliRunner().invoke(app, list(words))


def test_own_and_shared_options_arrive(app, heard):
    assert call(app, "greet", "Bonn", "--name", "A", "-c", "2", "--size", "32", "--name", "B", "--loud").exit_code == 0
    assert heard == [("greet", "Bonn", 32, {"count": 2, "names": ["A", "B"], "loud": True})]


def test_defaults_are_each_verbs(app, heard):
    assert call(app, "greet", "Bonn").exit_code == call(app, "leave").exit_code == 0
    assert heard == [
        ("greet", "Bonn", 28, {"count": 3, "names": None, "loud": False}),
        {"count": 7, "names": None, "loud": False},
    ]


@pytest.mark.parametrize(
    "words", [("greet",), ("greet", "Bonn", "--count", "0"), ("leave", "--size", "3"), ("leave", "x")]
)
def test_wrong_usage_stays_wrong(app, heard, words):
    assert call(app, *words).exit_code == 2
    assert heard == []


def test_help_shows_them_all_and_the_verbs_own_words(app):
    shown = call(app, "greet", "--help").output
    for words in ("Greet people.", "--count", "How many.", "--size", "Shout.", "place"):
        assert words in shown
    assert "chosen" not in shown


def test_name_and_signature():
    @with_options(SHARED)
    def verb(first: int, **chosen: Any) -> None:
        """Do."""

    assert (verb.__name__, verb.__doc__) == ("verb", "Do.")
    assert list(inspect.signature(verb).parameters) == ["first", "count", "names", "loud"]


def test_train_and_finetune_offer_the_same_options():
    commands = typer.main.get_command(application()).commands
    defaults = [
        {p.name: p.default for p in commands[verb].params if p.name in OPTIONS} for verb in ("train", "finetune")
    ]
    assert defaults[0].keys() == defaults[1].keys() == OPTIONS.keys()
    assert {name for name in OPTIONS if defaults[0][name] != defaults[1][name]} == {"epochs", "lr"}


def test_each_verb_stands_under_its_own_name_and_alone_when_it_is_asked_for() -> None:
    assert list(typer.main.get_command(application()).commands) == list(MODULES)
    for verb in MODULES:
        assert list(typer.main.get_command(application(verb)).commands) == [verb]
    assert list(typer.main.get_command(application("nonsense")).commands) == list(MODULES)
