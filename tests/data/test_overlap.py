import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusalscope.data.instruction import Instruction
from refusalscope.data.overlap import require_disjoint
from refusalscope.errors import InstructionsError

texts = st.lists(st.sampled_from("abcdefgh"), max_size=6)


def rows(*values: str) -> list[Instruction]:
    return [Instruction(text) for text in values]


def test_disjoint_sets_pass_even_where_one_repeats_itself():
    require_disjoint({"train": rows("a", "a", "b"), "val": rows("c"), "test": []})


def test_message_counts_every_pair_and_quotes_one_text():
    long = "name a colour " * 6
    sets = {"train": rows("a", long, "b"), "val": rows("b", long), "test": rows("a", "c")}
    with pytest.raises(InstructionsError) as caught:
        require_disjoint(sets)
    assert str(caught.value) == (
        "train and val share 2 instructions; train and test share 1 instruction "
        f'(the first is "{long[:60]}..."); keep each instruction in one set only'
    )


def test_space_around_and_category_do_not_make_another_instruction():
    with pytest.raises(InstructionsError, match="share 1 instruction"):
        require_disjoint({"train": [Instruction("a ", "x")], "val": [Instruction("a", "y")]})


@settings(deadline=None, derandomize=True)
@given(one=texts, two=texts, three=texts)
def test_sets_pass_just_where_no_two_intersect(one, two, three):
    sets = {"one": rows(*one), "two": rows(*two), "three": rows(*three)}
    if set(one) & set(two) or set(one) & set(three) or set(two) & set(three):
        with pytest.raises(InstructionsError):
            require_disjoint(sets)
    else:
        require_disjoint(sets)


def test_the_papers_splits_are_disjoint(reference):
    from refusalscope.data.read import read_instructions

    names = [
        f"{kind}_{part}" for kind in ("harmful", "harmless") for part in ("train", "val", "test")
    ]
    sets = {name: read_instructions(reference / "splits" / f"{name}.json") for name in names}
    require_disjoint(sets)
    sets["harmful_train"].append(sets["harmless_test"][0])
    with pytest.raises(InstructionsError, match="harmful_train and harmless_test share 1"):
        require_disjoint(sets)
