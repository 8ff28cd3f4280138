from typing import Annotated, Literal

import pytest
from pydantic import Field

from refusalscope.results.flags import Flag, NestedFlags, command_words, offered
from refusalscope.results.numbers import Count, Factor, Seed
from refusalscope.results.record import Record


class Inner(Record):
    size: Annotated[Count, Flag("Size.")] = 4
    names: Annotated[tuple[str, ...], Flag("Name; repeat.", word="name")] = ()
    unseen: int = 1


class Outer(Record):
    place: Annotated[str, Flag("Place.", is_argument=True)] = "here"
    inner: Inner = Inner(size=7)
    keeps: Annotated[bool, Flag("Do not keep.", word="no-keep", is_negated=True)] = True
    loud: Annotated[bool, Flag("Be loud.")] = False
    kind: Annotated[Literal["a", "b"], Flag("a or b.")] = "a"
    limit: Annotated[Factor | None, Flag("Limit.")] = None
    most: Annotated[Count | None, Flag("Most.")] = None
    seed: Annotated[Seed, Flag("Seed.")] = 0
    wait: Annotated[float, Field(ge=0.5), Flag("Seconds.")] = 1.0


class Chooses(Record):
    inner: Annotated[
        Inner, NestedFlags({"names": Flag("Another text.", word="inner-name"), "size": None})
    ] = Inner()


def test_every_field_with_a_flag_is_offered_in_order_and_those_inside_in_their_place() -> None:
    found = offered(Outer)
    assert [one.spelling for one in found] == [
        *("place", "--size", "--name", "--no-keep", "--loud", "--kind", "--limit", "--most"),
        *("--seed", "--wait"),
    ]
    assert [one.path for one in found[:3]] == [("place",), ("inner", "size"), ("inner", "names")]


def test_type_default_and_lowest_value_are_those_of_the_field() -> None:
    found = {one.name: (one.kind, one.default, one.minimum) for one in offered(Outer)}
    assert found == {
        "place": (str, "here", None),
        "size": (int, 7, 1),  # the default of the record that stands in the outer one
        "name": (str, (), None),
        "no_keep": (bool, True, None),
        "loud": (bool, False, None),
        "kind": (str, "a", None),
        "limit": (float, None, None),  # a limit below 0 bounds nothing that is worth a word
        "most": (int, None, 1),
        "seed": (int, 0, 0),
        "wait": (float, 1.0, 0.5),
    }
    assert [one.name for one in offered(Outer) if one.is_list] == ["name"]


def test_a_record_may_choose_which_fields_of_an_inner_one_are_offered_and_how() -> None:
    assert [(one.spelling, one.flag.help) for one in offered(Chooses)] == [
        ("--inner-name", "Another text."),
        ("--size", "Size."),
    ]


def test_a_chosen_field_without_a_flag_is_an_error() -> None:
    class Wrong(Record):
        inner: Annotated[Inner, NestedFlags({"unseen": None})] = Inner()

    with pytest.raises(ValueError, match=r"Inner\.unseen has no flag to offer"):
        offered(Wrong)


def test_the_words_of_a_command_say_what_differs_from_the_defaults() -> None:
    assert command_words(Outer()) == []
    changed = Outer(
        place="there",
        inner=Inner(size=4, names=("a", "b c")),
        keeps=False,
        loud=True,
        limit=-1.0,
        seed=3,
    )
    assert command_words(changed) == [
        *("--size", "4", "--name", "a", "--name", "b c", "--no-keep", "--loud"),
        *("--limit", "-1.0", "--seed", "3"),
    ]
