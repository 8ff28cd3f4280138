"""The published tables: complete, and the same facts as elsewhere in the package."""

import csv
from io import StringIO
from itertools import product

import pytest

from refusalscope.errors import InputError, RunFolderError
from refusalscope.measures.coherence.task import PAPER_TASKS
from refusalscope.metrics.intervals import wilson_interval
from refusalscope.models.families import FAMILIES, PAPER_MODELS
from refusalscope.results.paper_table import (
    PaperTable,
    TableColumn,
    TableRow,
    TableValue,
    table_csv,
)
from refusalscope.results.published import TABLE_NUMBERS, paper_model_name, published_table


def value(number: int, row: int, column: str) -> float | int | str | None:
    cell = published_table(number).rows[row].values[column]
    return cell.value if cell else None


@pytest.mark.parametrize("number", TABLE_NUMBERS)
def test_every_table_is_there_with_its_source_and_published_rows(number: int) -> None:
    table = published_table(number)
    assert table.number == number
    assert table.source.endswith(f"Table {number}")
    assert table.rows
    assert {row.source for row in table.rows} == {"published"}


def test_the_intervals_are_wilson_s_of_the_counts_behind_the_rates() -> None:
    checked = 0
    for number in TABLE_NUMBERS:
        table = published_table(number)
        for row, column in product(table.rows, table.columns):
            cell = row.values[column.name]
            if cell is None or cell.n is None:
                continue
            scale = 100 if column.unit == "percent" else 1
            assert isinstance(cell.value, float)
            successes = round(cell.value / scale * cell.n)
            assert successes / cell.n * scale == pytest.approx(cell.value, abs=0.05)
            low, high = wilson_interval(successes, cell.n)
            assert (cell.low, cell.high) == pytest.approx((low * scale, high * scale), abs=1e-5)
            checked += 1
    assert checked == 12 + 4 + 8


def test_cells_that_were_read_by_eye() -> None:
    assert value(2, 0, "ortho") == 22.6
    assert value(2, 0, "ortho_no_system") == 79.9
    assert value(2, 5, "gcg_m") is None
    assert value(2, 5, "pair") == 54.5
    assert value(3, 4, "gsm8k_baseline") == 91.2
    assert value(5, 11, "position") == -5
    assert value(5, 12, "induce") == 0.126
    assert value(7, 1, "llama_2_prompt") == 78.0
    assert value(8, 1, "mmlu_orthogonalized") == 54.8
    assert value(9, 0, "on_distribution_subtraction") == 0.586
    assert value(10, 3, "alpaca") == 1.626


def test_the_largest_models_say_the_same_in_tables_3_and_8() -> None:
    all_models = {row.model: row.values for row in published_table(8).rows}
    for row in published_table(3).rows:
        assert row.values == {name: all_models[row.model][name] for name in row.values}


def test_models_families_and_tasks_are_those_of_the_package() -> None:
    models = {model.name: model for model in PAPER_MODELS}
    for number in (1, 5, 8, 9):
        assert [row.model for row in published_table(number).rows] == list(models)
    for row in range(len(models)):
        model = models[published_table(1).rows[row].model]
        assert value(1, row, "id") == model.hub_id
        assert value(5, row, "n_layers") == model.n_layers
    for row, name in enumerate(row.model for row in published_table(4).rows):
        family = FAMILIES[name]
        assert value(4, row, "ids") == ", ".join(str(token) for token in family.refusal_tokens)
        strings = str(value(4, row, "strings")).replace("▁", "")
        assert strings == ", ".join(family.refusal_strings)
    for row, name in enumerate(row.model for row in published_table(6).rows):
        assert value(6, row, "template") == FAMILIES[name].template
    columns = {column.name for column in published_table(8).columns}
    assert columns == {
        f"{task.name}_{kind}" for task, kind in product(PAPER_TASKS, ("orthogonalized", "baseline"))
    }


def test_a_model_is_known_by_hub_id_and_by_folder_in_any_case() -> None:
    assert paper_model_name("meta-llama/Meta-Llama-3-8B-Instruct") == "Llama-3 8B"
    assert paper_model_name("runs/meta-llama-3-8b-instruct/") == "Llama-3 8B"
    assert paper_model_name("qwen-1_8b-chat") == "Qwen 1.8B"
    assert paper_model_name("bundled") is None


def test_there_is_no_table_11() -> None:
    with pytest.raises(InputError, match="table 11 is not here; expected 1 to 10"):
        published_table(11)


def small_table() -> PaperTable:
    return PaperTable(
        number=2,
        caption="A table",
        columns=(
            TableColumn(name="asr", label="ASR", kind="rate", unit="percent"),
            TableColumn(name="loss", label="Loss", kind="loss", unit="nats per token"),
        ),
        rows=(
            TableRow(
                model="A, B",
                source="published",
                values={"asr": TableValue(value=50.0, n=4, low=15.0, high=85.0), "loss": None},
            ),
        ),
        source="made up",
    )


def test_csv_has_n_and_interval_after_a_rate_and_nothing_where_nothing_was_measured() -> None:
    rows = list(csv.reader(StringIO(table_csv(small_table()))))
    assert rows == [
        ["model", "variant", "source", "run", "asr", "asr_n", "asr_low", "asr_high", "loss"],
        ["A, B", "", "published", "", "50.0", "4", "15.0", "85.0", ""],
    ]


def test_further_rows_and_columns_leave_the_published_ones_null() -> None:
    task = TableColumn(name="task", label="Task", kind="accuracy", unit="percent")
    ours = TableRow(
        model="mine",
        source="ours",
        run="mine",
        values={"asr": None, "loss": None, "task": TableValue(value=7.0)},
    )
    table = small_table().with_rows((ours,), columns=(task,), notes=("A note",))
    assert [row.values["task"] for row in table.rows] == [None, TableValue(value=7.0)]
    assert table.notes == ("A note",)
    assert small_table().rows[0].values.keys() == {"asr", "loss"}
    assert PaperTable.from_json(table.to_json(), source="text") == table


def test_a_row_that_leaves_out_a_column_is_refused() -> None:
    text = small_table().to_json().replace('"loss": null', '"lost": null')
    with pytest.raises(RunFolderError, match=r"row A, B has \['asr', 'lost'\]"):
        PaperTable.from_json(text, source="text")
