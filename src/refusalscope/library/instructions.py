"""Instructions for the library: from a file, from a data set by name, or as they are given."""

from collections.abc import Sequence
from pathlib import Path

from refusalscope.data.instruction import Instruction
from refusalscope.data.sources import read_file_or_source
from refusalscope.errors import InputError


def read(
    source: str | Path, *, columns: Sequence[str] = (), datasets: str | Path | None = None
) -> list[Instruction]:
    r"""Read instructions from a file, or a data set that the paper uses by its name.

    Files are .json, .jsonl, .csv, .tsv, .parquet or .txt; `refusalscope.data.read` says what is
    expected in them, `docs/evaluation.md` which data sets have names. No torch is loaded. Rows that
    do not stand alone are left out, and logged with their count.

    Args:
        source: Path of a file, name of a data set, or `hf:OWNER/DATASET/FILE`.
        columns: The column that is the instruction, where it goes by no usual name.
        datasets: Folder with the files of named data sets; without it they come from the hub.

    Returns:
        Instructions in the order of the file; `text` and `category` of each.

    Raises:
        InputError: no such file or name, or not in a form that is known; one line says which row.

    Examples:
        >>> import refusalscope as rs
        >>> from pathlib import Path
        >>> _ = Path("asked.txt").write_text("how might i get a boplin?\nwhat is a wesket?\n")
        >>> [one.text for one in rs.read("asked.txt")]
        ['how might i get a boplin?', 'what is a wesket?']
    """
    if not isinstance(source, str | Path):
        raise InputError(f"source is a {type(source).__name__}; expected a path or a name")
    folder = None if datasets is None else Path(datasets)
    given = (columns,) if isinstance(columns, str) else tuple(columns)
    return list(read_file_or_source(str(source), folder, columns=given).instructions)
