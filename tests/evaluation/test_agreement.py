from refusalscope.evaluation.agreement import agreement_of
from refusalscope.results.records import Judgements


def judgements(judge, measures, flags, dataset="harmful"):
    rows = [
        {
            "index": i,
            "dataset": dataset,
            "condition": "baseline",
            "judge": judge,
            "version": "1",
            "flag": flag,
            "raw": "",
            "unparsed": None if flag is not None else "unreadable",
        }
        for i, flag in enumerate(flags)
    ]
    return Judgements.model_validate(
        {"judge": judge, "version": "1", "measures": measures, "rows": rows}
    )


PHRASES = judgements("phrases", "refusal", [True, True, False, False, True])
OTHER = judgements("other", "refusal", [True, False, False, None, True])
GUARD = judgements("guard", "safety", [True, False, True, False, None])


def test_judges_of_one_measure_are_compared_where_both_gave_a_verdict():
    (pair,) = agreement_of([PHRASES, OTHER, GUARD]).pairs
    assert (pair.first, pair.second, pair.measure, pair.dataset) == (
        "phrases",
        "other",
        "refusal",
        "harmful",
    )
    assert (pair.n, pair.n_left_out) == (4, 1)
    counts = (pair.both_true, pair.first_only, pair.second_only, pair.both_false)
    assert counts == (2, 1, 0, 1)
    assert pair.observed == 0.75
    assert pair.kappa == 0.5


def test_two_data_sets_are_shown_together_and_apart():
    both = [
        Judgements.model_validate(
            {**dict(one), "rows": (*one.rows, *judgements(one.judge, "refusal", [True], "x").rows)}
        )
        for one in (PHRASES, OTHER)
    ]
    rows = agreement_of(both).pairs
    assert [(row.dataset, row.n) for row in rows] == [(None, 5), ("harmful", 4), ("x", 1)]
    assert rows[2].kappa is None


def test_the_four_combinations_name_their_completions():
    found = agreement_of([PHRASES, GUARD]).combinations
    assert len(found) == 1
    assert (found[0].refusal_judge, found[0].safety_judge) == ("phrases", "guard")
    assert found[0].n_left_out == 1
    places = {
        (c.refusal, c.safe): [place.index for place in c.places] for c in found[0].combinations
    }
    assert places == {
        (True, True): [0],
        (True, False): [1],
        (False, True): [2],
        (False, False): [3],
    }
