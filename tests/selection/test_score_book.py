import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_models import tiny_chat

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.moments import resid_pre_moments
from refusalscope.models.chat_model import ChatModel
from refusalscope.results.records import Selection, SelectionLimits
from refusalscope.selection.score_book import Baseline, ScoreBook
from refusalscope.selection.select_direction import SelectionPlan, select_direction
from refusalscope.selection.watch import Lead, Nobody, Watch

ANYTHING = SelectionLimits(min_induce=-100.0, max_kl=100.0, max_layer_fraction=1.1)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return tiny_chat(tmp_path_factory.mktemp("book") / "tiny", num_hidden_layers=4)


def _select(
    chat: ChatModel,
    book: ScoreBook,
    limits: SelectionLimits = ANYTHING,
    plan: SelectionPlan | None = None,
    watch: Watch | None = None,
) -> Selection:
    harmful = chat.encode([f"break the lock of door {i}" for i in range(5)])
    harmless = chat.encode([f"paint the door of house {i} in green" for i in range(6)])
    differences = difference_in_means(
        harmful=resid_pre_moments(chat, harmful).means,
        harmless=resid_pre_moments(chat, harmless).means,
    )
    return select_direction(
        chat,
        differences,
        harmful=harmful,
        harmless=harmless,
        refusal_tokens=[70, 71],
        limits=limits,
        plan=plan,
        book=book,
        watch=watch,
    )


class _Heard(Nobody):
    """Counts how often leaders are named."""

    def __init__(self) -> None:
        self.n_leads = 0

    def leads(self, leads: Sequence[Lead], *, are_estimates: bool) -> None:
        del leads, are_estimates
        self.n_leads += 1


def test_who_leads_is_said_once_however_many_rules_are_asked(chat: ChatModel) -> None:
    heard = _Heard()
    _select(chat, ScoreBook(), plan=SelectionPlan(others=(ANYTHING,)), watch=heard)
    assert heard.n_leads == 1


class _Passes:
    """Counts rows that the model runs."""

    def __init__(self, chat: ChatModel) -> None:
        self.rows = 0
        self._handle = chat.layers[-1].register_forward_hook(self._hook)

    def _hook(self, _module: object, _args: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        self.rows += len(first)  # pyright: ignore[reportArgumentType] # a tensor

    def close(self) -> int:
        self._handle.remove()
        return self.rows


def _after_means(
    chat: ChatModel, book: ScoreBook, limits: SelectionLimits
) -> tuple[Selection, int]:
    """A selection, and the rows that it ran beside the eleven of the means."""
    counter = _Passes(chat)
    selection = _select(chat, book, limits)
    return selection, counter.close() - 11


def test_a_finished_book_gives_the_same_selection_without_one_pass(
    chat: ChatModel, tmp_path: Path
) -> None:
    path = tmp_path / "scores.jsonl"
    fresh, n_rows = _after_means(chat, ScoreBook(path, key="k"), ANYTHING)
    again, n_again = _after_means(chat, ScoreBook(path, key="k"), ANYTHING)
    assert n_rows > 0
    assert n_again == 0
    assert again == fresh


def test_a_book_cut_after_any_pass_is_continued_to_the_same_bytes(
    chat: ChatModel, tmp_path: Path
) -> None:
    path = tmp_path / "scores.jsonl"
    fresh = _select(chat, ScoreBook(path, key="k"))
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) > 8
    for n in (1, 2, 3, len(lines) // 2, len(lines) - 1):
        torn = b"".join(lines[:n]) + lines[n][:5]
        path.write_bytes(torn)
        assert _select(chat, ScoreBook(path, key="k")) == fresh
        assert path.read_bytes() == whole


def test_other_limits_score_nothing_twice(chat: ChatModel, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    strict = SelectionLimits(min_induce=50.0, max_kl=100.0, max_layer_fraction=1.1)
    nearest = _select(chat, ScoreBook(path, key="k"), strict)
    assert nearest.nearest
    assert nearest.failed_limits == ("induce",)
    changed = _select(chat, ScoreBook(path, key="k"))
    assert not changed.nearest
    seen = [tuple(row[:4]) for line in _lines(path) for row in line.get("scores", [])]
    assert len(seen) == len(set(seen))
    alone = _select(chat, ScoreBook()).chosen
    assert (alone.position, alone.layer) == (changed.chosen.position, changed.chosen.layer)
    assert alone.bypass == pytest.approx(changed.chosen.bypass, abs=1e-4)


def test_scores_of_another_key_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    book = ScoreBook(path, key="one")
    book.add([("kl", (-1, 2), 0, 0.5)])
    assert ScoreBook(path, key="one").known("kl", (-1, 2)) == {0: 0.5}
    assert ScoreBook(path, key="two").known("kl", (-1, 2)) == {}
    assert ScoreBook(path, key="one").known("kl", (-1, 2)) == {}


def test_what_is_not_finite_comes_back_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    ScoreBook(path, key="k").add([("bypass", (-1, 2), 3, math.nan)])
    assert math.isnan(ScoreBook(path, key="k").known("bypass", (-1, 2))[3])


@pytest.mark.parametrize(
    "line",
    ["[]", "3", "{}", '{"scores": [["x", -1, 2, 3, 0.5]]}', '{"scores": 7}', "[" * 100_000, "torn"],
)
def test_a_line_that_is_none_of_ours_ends_what_is_read(tmp_path: Path, line: str) -> None:
    path = tmp_path / "scores.jsonl"
    book = ScoreBook(path, key="k")
    book.set_baseline(Baseline(metrics=(1.0,), shortcuts=frozenset({"resume"}), sweeps=2.0))
    whole = path.read_bytes()
    path.write_bytes(whole + line.encode() + b"\n")
    again = ScoreBook(path, key="k")
    assert again.baseline == book.baseline
    assert path.read_bytes() == whole


def _lines(path: Path) -> list[dict[str, list[list[object]]]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_another_rule_would_choose_is_what_it_chooses_alone(chat: ChatModel) -> None:
    induce = sorted(
        row.induce
        for row in _select(chat, ScoreBook(), plan=SelectionPlan(all_scores=True)).candidates
        if row.induce is not None
    )
    stricter = ANYTHING.model_copy(update={"min_induce": induce[len(induce) // 2]})
    for limits, other in ((ANYTHING, stricter), (stricter, ANYTHING)):
        beside = _select(chat, ScoreBook(), limits, SelectionPlan(others=(other,)))
        alone = _select(chat, ScoreBook(), other)
        (row,) = beside.others
        assert row.chosen is not None
        assert (row.chosen.position, row.chosen.layer) == (
            alone.chosen.position,
            alone.chosen.layer,
        )


def test_a_book_takes_over_what_another_knows_of_the_same_candidates(
    chat: ChatModel, tmp_path: Path
) -> None:
    first, second = ScoreBook(), ScoreBook(tmp_path / "second.jsonl", key="b")
    whole = _select(chat, first, plan=SelectionPlan(all_scores=True))
    known = {
        (s.position, s.layer)
        for s in whole.candidates
        if first.known("bypass", (s.position, s.layer))
    }
    adopted = sorted(known)[::2]
    second.add([("bypass", adopted[0], 0, -7.0)])
    second.adopt(first, adopted)
    second.adopt(first, adopted)
    assert second.baseline == first.baseline
    for name in ("bypass", "induce", "kl"):
        for candidate in known:
            theirs = dict(first.known(name, candidate)) if candidate in adopted else {}
            if (name, candidate) == ("bypass", adopted[0]):
                theirs[0] = -7.0  # what a book knows stays
            assert dict(second.known(name, candidate)) == theirs
    read = ScoreBook(tmp_path / "second.jsonl", key="b")
    assert dict(read.known("kl", adopted[-1])) == dict(first.known("kl", adopted[-1]))
