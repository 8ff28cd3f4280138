"""`refusalscope audit`: how brittle a model's refusal is, on one page."""

from pathlib import Path
from typing import Annotated

import typer

from refusalscope.cli.from_options import with_options
from refusalscope.cli.terminal import say, say_json
from refusalscope.measures.audit.options import AuditOptions


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(with_options(audit))


def audit(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the audit; continued if it is there.")],
    options: AuditOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print audit.json.")] = False,
) -> None:
    """Audit a model: refusal as it is, ways past it, dose, decoys, and what was not tested."""
    from refusalscope.cli.progress import Bars
    from refusalscope.cli.quiet import quiet_libraries
    from refusalscope.measures.audit.audit import audit as audited
    from refusalscope.pipeline.session import start_session
    from refusalscope.results.audit_records import AUDIT_PAGE

    quiet_libraries()
    options.require_sense()
    with start_session(options.run_options(), out, progress=Bars()) as session:
        found = audited(session, options)
    if as_json:
        say_json(found.to_json())
        return
    for text in found.findings:
        say(text)
    say(str(out / AUDIT_PAGE))
