"""`refusalscope run --paper`: its own options, and what it says at its end."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from refusalscope.cli.terminal import say, say_json

if TYPE_CHECKING:
    from refusalscope.measures.paper import PaperOptions
    from refusalscope.pipeline.options import RunOptions


def paper_options(*, paper: bool, given: dict[str, object]) -> "PaperOptions | None":
    """What `--paper` is to measure; None without it.

    Args:
        given: The values of the options that belong to it, by flag.

    Raises:
        InputError: one of them without `--paper`, or one that makes no sense.
    """
    from refusalscope.errors import InputError
    from refusalscope.measures.paper import PaperOptions, require_sense
    from refusalscope.pipeline.evaluation_options import JudgeOptions, LossOptions

    if not paper:
        if odd := [flag for flag, value in given.items() if value]:
            raise InputError(f"{odd[0]} belongs to --paper; give that too")
        return None
    judges = tuple(_texts(given["--judge"]))
    options = PaperOptions(
        judges=JudgeOptions.model_validate(
            {
                "judges": judges,
                "model": given["--judge-model"],
                "server": given["--server"],
                "short_is_safe": "llama_guard_2" in judges,
            }
        ),
        texts=LossOptions.model_validate(
            {"pile": given["--pile"], "alpaca": given["--alpaca"], "on_distribution": True}
        ),
        pairs=_text(given["--pairs"]),
        tasks=tuple(name for name in (_text(given["--tasks"]) or "").split(",") if name),
        task_folders=tuple(_texts(given["--task-folder"])),
    )
    require_sense(options)
    return options


def run_with_tables(
    options: "RunOptions", tables: "PaperOptions", out: Path, *, key: str | None, as_json: bool
) -> None:
    """Do a run and measure what the tables need, in one session, and print what came out.

    As JSON the summary and the tables' record; else one line, with what is missing on stderr.
    """
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.cli.run import tell_summary
    from refusalscope.measures.paper import TABLES, paper_tables
    from refusalscope.pipeline.session import start_session
    from refusalscope.results.records import Summary
    from refusalscope.results.run_records import SUMMARY, read_record

    quiet_libraries()
    with start_session(options, out, progress=Bars(), server_key=key) as session:
        if not as_json:
            tell_summary(read_record(Summary, out / SUMMARY), out, as_json=False)
        found = paper_tables(session, tables)
    if as_json:
        summary = read_record(Summary, out / SUMMARY)
        both = {"summary": summary.model_dump(mode="json"), "tables": found.model_dump(mode="json")}
        say_json(json.dumps(both, indent=2))
        return
    for warning in found.warnings:
        say(f"warning: {warning}", err=True)
    shown = ", ".join(
        f"{table.number}: {table.n_measured} of {table.n_measured + table.n_null}"
        for table in found.tables
    )
    say(f"our values by table {shown}; {out / TABLES}")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []
