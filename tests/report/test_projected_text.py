from types import SimpleNamespace

from refusalscope.report.completion_board import completion_board
from refusalscope.report.projected_text import Projected, marked_tokens, projection_data


def test_each_token_gets_an_element_of_its_own_and_nothing_else_changes():
    answer = Projected(number=0, lengths=(1, 0, 3))
    assert marked_tokens(answer, "a<b>", shown="a<b>") == "<i>a</i><i></i><i>&lt;b&gt;</i>"


def test_a_clipped_text_is_marked_as_far_as_it_is_shown():
    answer = Projected(number=0, lengths=(2, 2))
    assert marked_tokens(answer, "abcd", shown="abc") == "<i>ab</i><i>c</i>"


def test_lengths_of_another_text_mark_nothing():
    answer = Projected(number=0, lengths=(2, 2))
    assert marked_tokens(answer, "abcde", shown="abcde") is None
    assert marked_tokens(answer, None, shown=None) is None


def test_cells_with_projections_know_which_are_theirs(sample: SimpleNamespace):
    record = sample.evaluation().projections
    board = completion_board(sample.run(), record)
    cells = {
        (group.dataset, cell.condition, row.index): cell
        for group in board.groups
        for row in group.rows
        for cell in row.cells
    }
    assert board.has_projections
    for at, answer in enumerate(record.answers):
        cell = cells[(answer.dataset, answer.condition, answer.index)]
        assert cell.projection == at
        assert cell.tokens is not None
    assert cells[("harmful", "baseline", 20)].projection is None
    assert not completion_board(sample.run()).has_projections


def test_the_script_gets_layers_units_and_the_packed_values(sample: SimpleNamespace):
    record = sample.evaluation().projections
    data = projection_data(record)
    assert data is not None
    assert (data["own"], data["layers"], data["units"]) == (6, (0, 6, 11), [0.01, 0.1, 0.2])
    assert data["answers"][0] == [len(record.answers[0].lengths), record.answers[0].values]
    assert projection_data(None) is None
