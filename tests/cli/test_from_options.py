"""A command's options come from the record of options of what it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from refusalscope.cli.from_options import with_options
from refusalscope.errors import InputError
from refusalscope.pipeline.evaluation_options import FinetuneOptions, JudgeOptions
from refusalscope.pipeline.mechanism_options import MechanismOptions
from refusalscope.pipeline.options import RunOptions
from refusalscope.results.flags import offered
from refusalscope.results.record import Record

KINDS = (RunOptions, MechanismOptions, FinetuneOptions, JudgeOptions)


def made(kind: type[Record], *words: str, config: bool = False) -> Any:
    """The record that a command line makes."""
    found: list[Record] = []

    def command(
        *,
        options: Record,
        extra: Annotated[str | None, typer.Option(help="Of the command.")] = None,
    ) -> None:
        assert extra is None
        found.append(options)

    command.__annotations__["options"] = kind
    app = typer.Typer(add_completion=False)
    app.command()(with_options(command, config=config))
    parsed: Any = get_command(app)
    with parsed.make_context("command", list(words)) as context:
        parsed.invoke(context)
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_line_without_options_is_the_record_of_the_defaults(kind: type[Record]) -> None:
    assert made(kind) == kind()


@pytest.mark.parametrize("kind", KINDS)
def test_help_shows_the_default_of_every_field_that_has_one(kind: type[Record]) -> None:
    def command(*, options: Record) -> None: ...

    command.__annotations__["options"] = kind
    app = typer.Typer(add_completion=False)
    app.command()(with_options(command))
    parameters = {p.name: p for p in get_command(app).params}
    for one in offered(kind):
        shown = parameters[one.name].default
        expected = None if one.is_list else False if one.kind is bool else one.default
        assert shown == expected, one.name


def test_each_way_of_giving_a_value_fills_its_field() -> None:
    options = made(
        RunOptions,
        *("a-model", "--n-train", "7", "--column", "q", "--column", "p", "--no-filter"),
        *("--all-scores", "--max-kl", "0.3", "--rule", "code", "--random-suffix", "0"),
    )
    assert options == RunOptions.model_validate(
        {
            "model": "a-model",
            "n_train": 7,
            "columns": ("q", "p"),
            "filter_instructions": False,
            "all_scores": True,
            "limits": {"max_kl": 0.3, "rule": "code"},
            "random_suffix": 0,
        }
    )


def test_fields_inside_others_are_filled_and_what_is_not_given_stays() -> None:
    options = made(FinetuneOptions, "--judge", "chat", "--judge-model", "m", "--texts", "9")
    assert options.judges == JudgeOptions(judges=("chat",), model="m")
    assert options.texts.n_texts == 9
    assert options.texts.max_tokens == FinetuneOptions().texts.max_tokens
    assert options.batch_size == FinetuneOptions().batch_size


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (RunOptions, ("--rule", "x"), "--rule is 'x': input should be 'auto'"),
        (RunOptions, ("--dtype", "x"), "--dtype is 'x': input should be 'auto'"),
        (RunOptions, ("--max-kl", "1e39"), "--max-kl is 1e+39: input should be less"),
        (FinetuneOptions, ("--n-pairs", str(10**18)), "--n-pairs is 1000000000000000000"),
        (FinetuneOptions, ("--texts", str(10**18)), "--texts is 1000000000000000000"),
    ],
)
def test_a_value_that_the_record_refuses_is_told_by_its_flag(
    kind: type[Record], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        made(kind, *words)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_the_file_wins_over_defaults_and_the_command_line_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text(
        'model = "of-the-file"\nn_train = 5\nn_val = 6\ncolumns = ["a", "b"]\nall_scores = true\n'
        '[limits]\nmax_kl = 0.2\nrule = "code"\n'
    )
    options = made(
        RunOptions,
        *("--config", str(file), "--n-val", "32", "--column", "c", "--max-kl", "0.1"),
        config=True,
    )
    assert options.model == "of-the-file"
    assert (options.n_train, options.n_test) == (5, 100)
    assert options.n_val == 32  # given, though it is the default
    assert options.columns == ("c",)
    assert options.all_scores
    assert (options.limits.max_kl, options.limits.rule) == (0.1, "code")
    assert made(RunOptions, "given", "--config", str(file), config=True).model == "given"


def test_a_parameter_may_stand_among_the_options_in_the_help() -> None:
    def command(
        *,
        first: Annotated[str | None, typer.Option(help="First.")] = None,
        options: JudgeOptions,
        key: Annotated[str | None, typer.Option(help="Key.")] = None,
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(with_options(command, after={"key": "server"}))
    names = [p.name for p in get_command(app).params]
    assert names[0] == "first"
    assert names[names.index("server") + 1] == "key"


def test_the_record_must_be_the_only_one() -> None:
    def command(*, options: JudgeOptions, others: RunOptions) -> None: ...

    wrap: Callable[..., Any] = with_options
    with pytest.raises(ValueError, match="too many values"):
        wrap(command)
