"""`refusalscope mechanism`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.shared_options import TrustRemoteCode
from refusalscope.cli.terminal import say, say_json
from refusalscope.pipeline.mechanism_options import MechanismOptions


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(with_options(mechanism))


def mechanism(
    *,
    run_folder: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    options: MechanismOptions,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print refusal rates as JSON.")] = False,
) -> None:
    """Explain how a finished run's model refuses: suffixes, heads, layers, directions."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.mechanism import mechanism as explain
    from refusalscope.pipeline.session import open_session
    from refusalscope.results.mechanism_folder import SUFFIX_CONDITIONS
    from refusalscope.results.mechanism_records import SuffixConditions
    from refusalscope.results.run_records import read_record

    quiet_libraries()
    with open_session(run_folder, progress=Bars(), trust_remote_code=trust_remote_code) as session:
        explain(session, options)
    record = read_record(SuffixConditions, run_folder / SUFFIX_CONDITIONS)
    rates = {
        name: getattr(record, name).refusal.model_dump()
        for name in (
            "harmful",
            "harmful_random_suffix",
            "harmful_adversarial_suffix",
            "harmless",
        )
    }
    if as_json:
        say_json(json.dumps({"run": str(run_folder), "refusal": rates}, indent=2))
        return
    plain, random, adversarial = (rates[name]["rate"] for name in list(rates)[:3])
    say(
        f"refusal of harmful {plain:.2f}, with a random suffix {random:.2f}, with the adversarial "
        f"suffix {adversarial:.2f}; {run_folder / 'report.html'}"
    )
