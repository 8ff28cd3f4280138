from refusalscope.results.outcomes import AnswerSigns, Signs, outcome_shares
from refusalscope.results.records import Judgement, Judgements


def _judged(*flags: bool | None) -> Judgements:
    return Judgements(
        judge="j",
        version="1",
        measures="refusal",
        rows=tuple(
            Judgement(
                index=i,
                dataset="harmful",
                condition="ablation",
                judge="j",
                version="1",
                flag=flag,
                raw="",
                unparsed="no" if flag is None else None,
            )
            for i, flag in enumerate(flags)
        ),
    )


def _signs(*nonsense: bool) -> Signs:
    return Signs(
        own_loss=None,
        shuffled_loss=None,
        salad_above=None,
        rows=tuple(
            AnswerSigns(
                index=i,
                dataset="harmful",
                condition="ablation",
                signs=("repeating",) if bad else (),
                loss=None,
            )
            for i, bad in enumerate(nonsense)
        ),
    )


def test_nonsense_that_is_no_refusal_is_degenerate_and_a_repeated_refusal_is_refused() -> None:
    shares = outcome_shares(
        _judged(True, True, False, False, False), _signs(True, False, True, False, False)
    )
    own = shares["harmful"]["ablation"]
    assert (own.refused, own.degenerate, own.complied, own.n) == (0.4, 0.2, 0.4, 5)


def test_answers_without_a_verdict_or_signs_count_in_no_outcome() -> None:
    own = outcome_shares(_judged(True, None, False, False), _signs(False, False, True))
    assert own["harmful"]["ablation"].n == 2
    assert outcome_shares(None, _signs(False)) == {}
    assert outcome_shares(_judged(True), None) == {}
