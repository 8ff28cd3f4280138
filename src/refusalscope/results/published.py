"""The paper's tables as it published them, from the files in published/."""

from functools import cache
from importlib.resources import files

from refusalscope.errors import InputError
from refusalscope.results.paper_table import PaperTable

TABLE_NUMBERS = range(1, 11)


@cache
def published_table(number: int) -> PaperTable:
    """Table `number` of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, version 3.

    A rate's interval is ours, from its n; the paper prints none in its tables.

    Raises:
        InputError: there is no such table here; those of assets and licences (11, 12) are not.
    """
    if number not in TABLE_NUMBERS:
        raise InputError(
            f"table {number} is not here; expected {TABLE_NUMBERS[0]} to {TABLE_NUMBERS[-1]}"
        )
    name = f"table-{number}.json"
    text = (files("refusalscope.results") / "published" / name).read_text("utf-8")
    return PaperTable.from_json(text, source=name)


def paper_model_name(source: str) -> str | None:
    """What the paper calls a model, by hub id or folder name; None where it is not one of its.

    The last part of the name decides, in any case: `meta-llama-3-8b-instruct` of a run of the
    paper's code is Llama-3 8B as `meta-llama/Meta-Llama-3-8B-Instruct` is.
    """
    return _names().get(_last_part(source))


@cache
def _names() -> dict[str, str]:
    rows = published_table(1).rows
    return {_last_part(str(cell.value)): row.model for row in rows if (cell := row.values["id"])}


def _last_part(source: str) -> str:
    return source.rstrip("/").rsplit("/", 1)[-1].casefold()
