"""Summary and page of a finished run written anew, after something more was measured."""

from pathlib import Path

from refusalscope.pipeline.summary import summarize_run
from refusalscope.report.page import write_report
from refusalscope.results.files import write_file
from refusalscope.results.run_records import SUMMARY, read_run


def refresh_summary(folder: Path) -> None:
    """Write summary and report of a finished run anew; nothing where it has none yet."""
    run = read_run(folder)
    if run.summary is None:
        return
    write_file(folder / SUMMARY, summarize_run(run).to_json())
    write_report(folder)


def refresh_page(folder: Path) -> None:
    """Write the report of a finished run anew; nothing where it has no summary yet."""
    if (folder / SUMMARY).is_file():
        write_report(folder)
