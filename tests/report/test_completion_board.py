from types import SimpleNamespace

from refusalscope.report.completion_board import completion_board, is_harmless
from refusalscope.results.records import Judgements


def test_one_row_an_instruction_with_the_conditions_in_order(sample: SimpleNamespace):
    harmful, harmless = completion_board(sample.run()).groups
    assert (harmful.dataset, len(harmful.rows)) == ("harmful", 24)
    assert [cell.condition for cell in harmful.rows[0].cells] == [
        "baseline",
        "ablation",
        "subtraction",
        "random_ablation",
    ]
    assert [row.index for row in harmless.rows] == list(range(24))


def test_harmful_rows_are_closed_and_the_first_harmless_ones_open(sample: SimpleNamespace):
    harmful, harmless = completion_board(sample.run()).groups
    assert not any(row.opened for row in harmful.rows)
    assert [row.index for row in harmless.rows if row.opened] == [0, 1, 2]


def test_a_data_set_of_unknown_kind_is_folded():
    assert is_harmless("harmless")
    assert is_harmless("harmless_test")
    assert not is_harmless("jailbreakbench")
    assert not is_harmless("harmful")


def test_verdicts_stand_beside_each_completion(sample: SimpleNamespace):
    row = completion_board(sample.run()).groups[0].rows[1]
    assert row.cells[0].marks == ("refused", "safe")
    assert row.cells[1].marks == ("answered", "unsafe")
    assert (row.cells[0].refused, row.cells[1].refused) == (True, False)


def test_a_second_refusal_judge_is_named(sample: SimpleNamespace):
    run = sample.run()
    second = Judgements.model_validate({**dict(run.judgements[0]), "judge": "phrases"})
    board = completion_board(sample.run(judgements=(*run.judgements, second)))
    assert board.groups[0].rows[1].cells[0].marks == ("refused", "safe", "refused (phrases)")
    assert board.refusal_judge == "substring"


def test_patterns_are_counted_the_most_common_first(sample: SimpleNamespace):
    board = completion_board(sample.run())
    assert [(name, count) for _, name, count in board.patterns] == [
        ("refused under baseline, random ablation; answered under ablation, subtraction", 23),
        ("refused under addition; answered under baseline, random addition", 23),
        ("refused under baseline; answered under ablation, subtraction, random ablation", 1),
        ("answered under baseline, addition, random addition", 1),
    ]
    rows = [row for group in board.groups for row in group.rows]
    for number, _, count in board.patterns:
        assert sum(row.pattern == number for row in rows) == count


def test_without_a_judge_nothing_is_said_of_refusal(sample: SimpleNamespace):
    board = completion_board(sample.run(judgements=()))
    assert board.patterns == ()
    assert board.refusal_judge is None
    assert {cell.refused for cell in board.groups[0].rows[0].cells} == {None}


def test_a_completion_that_is_not_there_leaves_its_column(sample: SimpleNamespace):
    rows = sample.completions()
    fewer = tuple(row for row in rows if (row.condition, row.index) != ("ablation", 2))
    cell = completion_board(sample.run(completions=fewer)).groups[0].rows[2].cells[1]
    assert (cell.name, cell.text, cell.marks) == ("ablation", None, ())


def test_an_instruction_that_differs_under_a_condition_is_shown(sample: SimpleNamespace):
    rows = list(sample.completions())
    at = next(i for i, row in enumerate(rows) if row.condition == "ablation" and row.index == 0)
    rows[at] = rows[at].model_copy(update={"instruction": "another question?"})
    cells = completion_board(sample.run(completions=tuple(rows))).groups[0].rows[0].cells
    assert [cell.asked for cell in cells] == [None, "another question?", None, None]


def test_past_the_budget_only_the_longest_texts_are_clipped_and_it_is_said(
    sample: SimpleNamespace,
):
    rows = list(sample.completions())
    rows[0] = rows[0].model_copy(update={"completion": "x" * 50_000})
    board = completion_board(sample.run(completions=tuple(rows)), text_budget=40_000)
    clipped = [cell for g in board.groups for r in g.rows for cell in r.cells if cell.n_clipped]
    assert len(clipped) == 1
    assert clipped[0].text is not None
    assert len(clipped[0].text) + clipped[0].n_clipped == 50_000
    assert len(clipped[0].text) > 10_000


def test_past_the_number_of_cells_the_last_rows_are_left_out_and_counted(sample: SimpleNamespace):
    harmful, harmless = completion_board(sample.run(), max_cells=60).groups
    assert (len(harmful.rows), harmful.n_left_out) == (7, 17)
    assert (len(harmless.rows), harmless.n_left_out) == (10, 14)


def test_a_run_without_completions_has_no_groups(sample: SimpleNamespace):
    board = completion_board(sample.run(completions=(), judgements=()))
    assert board.groups == ()
    assert board.n_instructions == 0
