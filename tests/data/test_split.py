import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.data.split import SplitCount, split_instructions
from refusalscope.errors import InstructionsError

same_every_time = settings(deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 80)
ROWS = [Instruction(f"count to {number}", str(number % 3)) for number in range(200)]


@same_every_time
@given(seed=seeds, n_train=sizes, n_val=sizes, n_test=sizes)
def test_no_split_changes_when_the_size_of_another_does(seed, n_train, n_val, n_test):
    whole = split_instructions(ROWS, seed)
    part = split_instructions(ROWS, seed, n_train=n_train, n_val=n_val, n_test=n_test)
    assert part.train == whole.train[:n_train]
    assert part.val == whole.val[:n_val]
    assert part.test == whole.test[:n_test]


@same_every_time
@given(seed=seeds)
def test_splits_are_disjoint_and_hold_everything(seed):
    split = split_instructions(ROWS, seed)
    require_disjoint({"train": split.train, "val": split.val, "test": split.test})
    assert sorted((*split.train, *split.val, *split.test), key=ROWS.index) == ROWS


@same_every_time
@given(seed=seeds, order=seeds)
def test_split_depends_neither_on_order_nor_on_the_other_instructions(seed, order):
    shuffled = random.Random(order).sample(ROWS, len(ROWS))
    whole = split_instructions(ROWS, seed)
    assert split_instructions(shuffled, seed) == whole
    some = split_instructions(shuffled[:150], seed)
    assert set(some.train) <= set(whole.train)
    assert set(some.val) <= set(whole.val)
    assert set(some.test) <= set(whole.test)


def test_shares_are_60_20_20_and_the_rank_is_no_part_of_the_file_order():
    rows = [Instruction(f"count to {number}") for number in range(5000)]
    split = split_instructions(rows, 0)
    assert len(split.train) == pytest.approx(3000, abs=150)
    assert len(split.val) == pytest.approx(1000, abs=120)
    assert len(split.test) == pytest.approx(1000, abs=120)
    places = [rows.index(row) for row in split.val]
    assert places != sorted(places)


def test_another_seed_gives_another_split():
    assert split_instructions(ROWS, 1).train != split_instructions(ROWS, 2).train


def test_split_of_seed_0_stays_what_it_is():
    """Golden: a change of the hash would change every run of every user."""
    split = split_instructions(ROWS, 0, n_train=3, n_val=2, n_test=2)
    rows = (*split.train, *split.val, *split.test)
    assert [ROWS.index(row) for row in rows] == [118, 185, 143, 126, 22, 81, 186]


def test_like_texts_land_in_one_split_once_and_are_counted():
    doubled = [*ROWS, *(Instruction(f" Count  to {number}", "again") for number in range(200))]
    split = split_instructions(doubled, 0)
    assert split.n_duplicates == 200
    assert (split.train, split.val, split.test) == (
        split_instructions(ROWS, 0).train,
        split_instructions(ROWS, 0).val,
        split_instructions(ROWS, 0).test,
    )


def test_a_size_beyond_what_is_there_takes_all_and_says_so():
    whole = split_instructions(ROWS, 0)
    split = split_instructions(ROWS, 0, n_train=1000, n_val=5)
    assert split.train == whole.train
    n_train, n_val = len(whole.train), len(whole.val)
    assert split.counts["train"] == SplitCount(requested=1000, available=n_train, taken=n_train)
    assert split.counts["train"].is_short
    assert split.counts["val"] == SplitCount(requested=5, available=n_val, taken=5)
    assert not split.counts["val"].is_short
    assert split.counts["test"].requested is None
    assert not split.counts["test"].is_short


def test_too_few_instructions_for_three_splits_are_refused():
    with pytest.raises(InstructionsError, match="1 distinct instructions leave none for"):
        split_instructions([ROWS[0]] * 9, 0)
    with pytest.raises(InstructionsError, match="0 distinct instructions leave none for train and"):
        split_instructions([], 0)


@pytest.mark.parametrize("size", ["n_train", "n_val", "n_test"])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(InstructionsError, match=f"{size} is 0; expected at least 1"):
        split_instructions(ROWS, 0, **{size: 0})
