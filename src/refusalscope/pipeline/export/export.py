"""`refusalscope export`: a finished run, and its audit, in the forms that others read."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from refusalscope.errors import InputError, RunFolderError
from refusalscope.models.chat_model import local_folder
from refusalscope.organisms.organism import resolve_model
from refusalscope.pipeline.export.every_eval_ever import every_eval_ever
from refusalscope.pipeline.export.in_toto import in_toto_statement
from refusalscope.pipeline.export.named import exported_model, time_of_export
from refusalscope.pipeline.export.rates import exported_rates, rates_csv
from refusalscope.results.audit_records import AUDIT, Audit
from refusalscope.results.files import new_folder, write_file
from refusalscope.results.run_records import RunRecords, read_if_there, read_run

FORMS = ("csv", "every-eval-ever", "in-toto", "inspect")
RATES = "rates.csv"
STATEMENT = "statement.json"
LOGS = "inspect"


def export(
    folder: Path,
    out: Path,
    forms: Sequence[str],
    *,
    model_id: str | None = None,
    organization: str | None = None,
    checkpoint: str | None = None,
    with_text: bool = False,
) -> list[Path]:
    """Write the folder `out` with a run in each of the wanted forms.

    Args:
        folder: Of a finished run; of its audit too where `audit` made it.
        model_id: OWNER/NAME of the model outside; found from its source if None.
        organization: Who vouches for the numbers, in records of Every Eval Ever.
        checkpoint: Folder or hub id of the audited weights, for the in-toto statement; the run's
            source if None.
        with_text: Write instructions and answers too, in plain text.

    Returns:
        The files, in `out`.

    Raises:
        InputError: no form is wanted, or one needs what is not there.
        RunFolderError: `folder` is no finished run.
        OutputError: `out` exists.
    """
    if odd := [form for form in forms if form not in FORMS]:
        raise InputError(f"a form is {odd[0]!r}; expected one of {', '.join(FORMS)}")
    if not forms:
        raise InputError(f"nothing is to be written; name at least one of {', '.join(FORMS)}")
    if "inspect" in forms and find_spec("inspect_ai") is None:
        raise InputError(
            "the log is written by Inspect, which is not installed; "
            "install it with: pip install 'refusalscope[inspect]'"
        )
    if organization is not None and not (organization.strip() and organization.isprintable()):
        raise InputError(
            f"the organization is {organization!r}; expected a name of letters that can be printed"
        )
    run = read_run(folder)
    audit = read_if_there(Audit, folder / AUDIT)
    if run.summary is None:
        raise RunFolderError(
            f"{folder} is not finished, so it has no rates; continue it with: "
            f"{run.manifest.command}"
        )
    rates = exported_rates(run, audit)
    if not rates:
        raise RunFolderError(f"{folder} has no rate: no judge gave a verdict on any answer")
    model, seconds = exported_model(run.manifest.model, model_id), time_of_export()
    texts: dict[str, str] = {}
    if "csv" in forms:
        texts[RATES] = rates_csv(rates)
    if "in-toto" in forms:
        texts[STATEMENT] = _statement(run, audit, checkpoint)
    if "every-eval-ever" in forms:
        texts |= every_eval_ever(
            run,
            rates,
            model,
            organization=organization,
            seconds=seconds,
            with_text=with_text,
        )
    with new_folder(out) as scratch:
        for name, text in texts.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(scratch / name, text)
        logs: list[Path] = []
        if "inspect" in forms:
            # An extra, and slow to import.
            from refusalscope.pipeline.export.inspect_log import write_inspect_logs  # noqa: PLC0415

            (scratch / LOGS).mkdir()
            logs = write_inspect_logs(
                run, rates, model, scratch / LOGS, seconds=seconds, with_text=with_text
            )
        written = [*texts, *(str(path.relative_to(scratch)) for path in logs)]
    return [out / name for name in written]


def _statement(run: RunRecords, audit: Audit | None, checkpoint: str | None) -> str:
    if audit is None:
        raise InputError(
            f"{run.folder} has no {AUDIT}, which an in-toto statement is of; make it with: "
            f"refusalscope audit {run.manifest.model.source} --out DIR"
        )
    source = run.manifest.model.source if checkpoint is None else checkpoint
    revision = run.manifest.model.revision if checkpoint is None else None
    return in_toto_statement(audit, local_folder(resolve_model(source), revision))
