import pytest

from refusalscope.report.wording import conditions_in_order, interval, number, percent, thousands
from refusalscope.results.records import Rate


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (127 / 128, "99.2 %"),
        (0.9999, "99.9 %"),
        (0.0001, "0.1 %"),
    ],
)
def test_only_exact_nought_and_one_read_as_nought_and_a_hundred_percent(share: float, words: str):
    assert percent(share) == words


def test_an_interval_names_its_unit_once():
    assert interval(Rate(rate=1.0, n=128, low=0.9709, high=1.0)) == "97.1\N{EN DASH}100 %"


def test_none_reads_not_measured_and_never_nought():
    assert number(None) == "not measured"


def test_a_number_has_a_real_minus_and_no_negative_nought():
    assert number(-9.8551) == "\N{MINUS SIGN}9.855"
    assert number(-0.0001) == "0.000"


def test_thousands_are_kept_apart():
    assert thousands(2834432) == "2\u202f834\u202f432"


def test_conditions_come_in_their_usual_order_and_unknown_ones_last():
    assert conditions_in_order({"zebra", "random_ablation", "ablation", "baseline"}) == [
        "baseline",
        "ablation",
        "random_ablation",
        "zebra",
    ]
