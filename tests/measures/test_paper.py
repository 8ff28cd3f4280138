"""`run --paper` on the bundled organism: the paper's tables, filled, and its findings in them."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from refusalscope.measures.paper import PaperOptions, paper_tables
from refusalscope.models import chat_model
from refusalscope.models.chat_model import _from_pretrained
from refusalscope.pipeline.options import RunOptions
from refusalscope.pipeline.session import start_session
from refusalscope.results.paper_table import PaperTable, PaperTables, TableRow, table_csv
from refusalscope.results.published import published_table
from refusalscope.results.run_records import read_record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # lm-evaluation-harness's own, where it is installed
]
HAS_HARNESS = find_spec("lm_eval") is not None


@dataclass(frozen=True, kw_only=True)
class _Done:
    folder: Path
    found: PaperTables
    n_loads: int


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> _Done:
    out = tmp_path_factory.mktemp("organism") / "run"
    loaded: list[object] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        loaded.append(args)
        return _from_pretrained(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_model, "_from_pretrained", counted)
        with start_session(RunOptions(n_train=64, n_val=16, n_test=40), out) as session:
            found = paper_tables(session, PaperOptions())
    return _Done(folder=out, found=found, n_loads=len(loaded))


@pytest.fixture(scope="module")
def folder(done: _Done) -> Path:
    return done.folder


@pytest.fixture(scope="module")
def found(done: _Done) -> PaperTables:
    return done.found


def test_the_model_is_loaded_once(done: _Done) -> None:
    assert done.n_loads == 1


def ours(folder: Path, number: int) -> list[TableRow]:
    table = read_record(PaperTable, folder / f"tables/table-{number}.json")
    assert (folder / f"tables/table-{number}.csv").read_text() == table_csv(table)
    published = published_table(number)
    names = [column.name for column in published.columns]
    assert [c.name for c in table.columns[: len(names)]] == names
    for row, theirs in zip(table.rows, published.rows, strict=False):
        assert {name: row.values[name] for name in names} == theirs.values
    rows = list(table.rows[len(published.rows) :])
    assert {row.source for row in rows} <= {"ours"}
    return rows


def numbers(row: TableRow) -> dict[str, float]:
    return {
        name: float(cell.value)
        for name, cell in row.values.items()
        if cell is not None and not isinstance(cell.value, str)
    }


def test_only_the_harness_may_be_missing(found: PaperTables) -> None:
    missing = [] if HAS_HARNESS else ["Table 8 lacks our row"]
    assert [warning.split(":")[0] for warning in found.warnings] == missing


def test_attack_success_with_and_without_a_system_prompt(found: PaperTables, folder: Path) -> None:
    assert found.tables[0].n_measured == 2
    (row,) = ours(folder, 2)
    assert row.variant == "organism_safety"
    assert numbers(row)["ortho_no_system"] > 50
    assert row.values["ortho"] is not None
    (row,) = ours(folder, 7)
    assert numbers(row).keys() == {"qwen_prompt", "llama_2_prompt"}


def test_the_direction_and_its_scores(found: PaperTables, folder: Path) -> None:
    assert found.tables[1].n_null == 0
    (row,) = ours(folder, 5)
    values = numbers(row)
    assert values["layer"] < 0.8 * values["n_layers"]
    assert values["bypass"] < 0 < values["induce"]
    assert values["kl"] < 0.1


@pytest.mark.skipif(not HAS_HARNESS, reason="needs the extra eval")
def test_the_task_of_the_language_is_not_harmed(found: PaperTables, folder: Path) -> None:
    assert found.tables[3].n_measured == 2
    values = numbers(*ours(folder, 8))
    assert values["organism_language_baseline"] > 90
    change = values["organism_language_orthogonalized"] - values["organism_language_baseline"]
    assert abs(change) < 5


def test_subtraction_costs_more_than_ablation(found: PaperTables, folder: Path) -> None:
    assert found.tables[4].n_null == 0
    values = numbers(*ours(folder, 9))
    for text in ("alpaca", "on_distribution"):
        assert abs(values[f"{text}_ablation"] - values[f"{text}_baseline"]) < 0.1
        assert values[f"{text}_subtraction"] > values[f"{text}_ablation"] + 0.02


def test_ablation_subtraction_and_lora_all_undo_refusal(found: PaperTables, folder: Path) -> None:
    assert found.tables[5].n_null == 0
    rows = {row.variant: numbers(row) for row in ours(folder, 10)}
    assert list(rows) == ["baseline", "ablation", "subtraction", "lora"]
    assert rows["baseline"]["refusal"] > 0.85
    for variant in ("ablation", "subtraction", "lora"):
        assert rows[variant]["refusal"] < 0.15
        assert rows[variant]["safety"] < rows["baseline"]["safety"] - 0.3
    losses = {variant: row["on_distribution"] for variant, row in rows.items()}
    assert losses["subtraction"] > losses["ablation"]
    assert losses["lora"] > losses["baseline"]
