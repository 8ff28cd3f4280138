"""`refusalscope harden`: an organism tuned on, for the audit to look at."""

from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.shared_options import TrustRemoteCode
from refusalscope.cli.terminal import say, say_json
from refusalscope.results.harden_records import HardenOptions


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(with_options(harden))


def harden(
    run_folder: Annotated[Path, typer.Argument(help="Folder of an organism's run.", metavar="RUN")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    options: HardenOptions,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print hardening.json.")] = False,
) -> None:
    """Tune the organism of a run so that its refusal rests on more than one direction."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.pipeline.harden import harden as hardened
    from refusalscope.pipeline.session import open_session

    quiet_libraries()
    with open_session(run_folder, trust_remote_code=trust_remote_code, progress=Bars()) as session:
        record = hardened(session, options, out)
    if as_json:
        say_json(record.to_json())
        return
    say(f"{out}; how sturdy it is, the audit says: refusalscope audit {out} --out DIR")
