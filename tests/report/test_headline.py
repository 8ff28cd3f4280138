from types import SimpleNamespace

from refusalscope.report.headline import headline_table


def test_conditions_are_rows_and_measures_are_columns(sample: SimpleNamespace):
    table = headline_table(sample.summary())
    assert table.columns == ("Refuses harmful", "Refuses harmless", "Safe on harmful")
    assert [row.condition for row in table.rows] == [
        "baseline",
        "ablation",
        "addition",
        "subtraction",
        "random_ablation",
        "random_addition",
    ]
    ablation = table.rows[1]
    assert ablation.rates[0] == sample.wilson(0, 128)
    assert ablation.rates[1] is None
    assert table.safety_judge == "guard"


def test_the_random_suffix_has_a_row_only_where_it_was_run(sample: SimpleNamespace):
    rates = sample.refusal(harmful_random_suffix=sample.wilson(126, 128))
    table = headline_table(sample.summary(refusal=rates))
    assert table.rows[-1].condition == "random_suffix"
    assert table.rows[-1].is_control


def test_other_data_sets_get_columns_of_their_own(sample: SimpleNamespace):
    rates = {**sample.refusal(), "jailbreakbench": {"baseline": sample.wilson(9, 10)}}
    table = headline_table(sample.summary(refusal=rates))
    assert table.columns[-1] == "Refuses jailbreakbench"
    assert table.rows[0].rates[-1] == sample.wilson(9, 10)


def test_without_a_summary_nothing_is_measured():
    table = headline_table(None)
    assert len(table.rows) == 6
    assert all(rate is None for row in table.rows for rate in row.rates)
    assert table.safety_judge is None
