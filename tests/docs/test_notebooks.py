"""The notebooks run, top to bottom, and are stored without outputs."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from plotly.graph_objects import Figure

from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def executed(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The names that a notebook leaves, and what each cell shows: the value of its last line."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, source in enumerate(code_cells(path), 1):
        tree, place = ast.parse(source), f"{path.name}, code cell {number}"
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, place, "exec"), namespace)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), place, "eval"), namespace))
    return namespace, shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_notebook_stores_what_it_put_out(path: Path) -> None:
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_the_method_comes_to_ablated_answers_and_a_picture_in_ten_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (one for one in NOTEBOOKS if one.name == "the-method.ipynb")
    tree = ast.parse("\n".join(code_cells(path)))
    assert sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) <= 10
    assert code_cells(path)[0].startswith("import refusalscope as rs\n")
    monkeypatch.chdir(tmp_path)
    names, shown = executed(path)
    assert any(isinstance(value, Figure) for value in shown)
    assert all("<div>" in value._repr_html_() for value in shown[:2])
    refused = {
        condition: [refusal_phrase_in_answer(text) is not None for text in answers]
        for condition, answers in names["answers"].items()
    }
    assert refused == {"as it is": [True] * 5, "ablated": [False] * 5}
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_an_edit_comes_to_its_proof_in_fewer_than_fifteen_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (one for one in NOTEBOOKS if one.name == "an-edit-and-its-proof.ipynb")
    tree = ast.parse("\n".join(code_cells(path)))
    assert sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) == 14
    assert code_cells(path)[0].startswith("import refusalscope as rs\n")
    monkeypatch.chdir(tmp_path)
    names, shown = executed(path)
    in_memory, answers, on_disk, proof, is_same_answer = shown
    assert [one.verdict for one in (in_memory, on_disk, names["control"])] == ["complete"] * 3
    assert all("complete" in one._repr_html_() for one in (in_memory, on_disk))
    assert (proof["verdict"], proof["coverage"]) == ("complete", 1.0)
    assert 0 < proof["leftover in the tensors"] < 1e-6
    assert 0 < proof["leftover in the stream"] < 1e-5
    assert proof["logits: edited against ablated by hooks"] < 1e-4
    assert proof["logits: ablated by hooks against the original"] > 1
    refused = {
        when: [refusal_phrase_in_answer(text) is not None for text in texts]
        for when, texts in answers.items()
    }
    assert refused == {
        "before": [True] * 5,
        "after": [False] * 5,
        "after the control": [True] * 5,
    }
    assert is_same_answer
    assert [one.name for one in tmp_path.iterdir()] == ["edited"]
