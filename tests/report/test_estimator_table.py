"""The page says how far one channel owns the difference, and where other estimates differ."""

from types import SimpleNamespace

from refusalscope.report.choice import describe_choice
from refusalscope.report.page import render_report
from refusalscope.results.contrast_records import Contrast, Separation
from refusalscope.results.estimator_records import BESIDE, ChannelCheck
from refusalscope.results.records import ExtractionFacts


def row(position: int, layer: int, share: float, **changes: object) -> ChannelCheck:
    facts: dict[str, object] = {
        "position": position,
        "layer": layer,
        "channel": 163,
        "share": share,
        "ratio": 312.04,
        "n_loud": 2,
        "loud_share": share,
        "spread": 1.5,
        "cosines": {**dict.fromkeys(BESIDE, 0.25), "projected": None},
    }
    return ChannelCheck.model_validate({**facts, **changes})


def extraction(run: SimpleNamespace, **changes: object) -> ExtractionFacts:
    return run.extraction.model_copy(update=changes)


def test_the_chosen_place_comes_first_and_then_those_with_the_largest_share(
    sample: SimpleNamespace,
) -> None:
    run = sample.run()
    place = (run.direction.position, run.direction.layer)
    own = row(*place, 0.02, n_loud=0, ratio=None)
    others = [row(-4, layer, 0.9 - layer / 10) for layer in range(1, 9)]
    run = sample.run(extraction=extraction(run, channels=(*others, own)))
    choice = describe_choice(run)
    assert choice is not None
    table = choice.channels
    assert table is not None
    assert [cells[0].endswith("\nchosen") for cells in table.rows] == [True, *[False] * 5]
    assert table.rows[0][1:5] == ("163", "2 %", "the median is 0", "0")
    assert [cells[2] for cells in table.rows[1:]] == ["80 %", "70 %", "60 %", "50 %", "40 %"]
    assert table.rows[1][3:] == ("312.0", "2\n80 % of it", "0.25", "0.25", "0.25", "none")
    assert "so at 3 of 9 places" in table.caption
    page = render_report(run)
    assert "Whether one channel owns the difference" in page
    assert "made by the" not in page


def test_a_run_that_did_not_look_has_no_table(sample: SimpleNamespace) -> None:
    choice = describe_choice(sample.run())
    assert choice is not None
    assert choice.channels is None
    assert "Whether one channel owns" not in render_report(sample.run())


def test_another_estimator_is_named(sample: SimpleNamespace) -> None:
    run = sample.run()
    run = sample.run(extraction=extraction(run, estimator="discriminant"))
    assert "The candidates are made by the discriminant estimator" in render_report(run)


def test_what_tells_the_instructions_apart_is_said(sample: SimpleNamespace) -> None:
    even = Separation(area=0.5, low=0.4, high=0.6)
    apart = Contrast(
        words=Separation(area=0.921, low=0.88, high=0.947),
        length=even,
        n_harmful=132,
        n_harmless=131,
    )
    run = sample.run()
    page = render_report(sample.run(extraction=extraction(run, contrast=apart)))
    assert "words alone tell the 132 harmful instructions of validation and test" in page
    assert "AUROC of 0.92 (95 % 0.88 to 0.95), length alone with 0.50 (95 % 0.40 to 0.60)" in page
    assert "may in part be one of that" in page
    same = apart.model_copy(update={"words": even})
    page = render_report(sample.run(extraction=extraction(run, contrast=same)))
    assert "words alone tell" in page
    assert "may in part be one of that" not in page
    for changes, is_said in (
        ({"words": Separation(area=0.41, low=0.35, high=0.48)}, False),
        ({"length": Separation(area=0.31, low=0.25, high=0.38)}, True),
    ):
        page = render_report(
            sample.run(extraction=extraction(run, contrast=same.model_copy(update=changes)))
        )
        assert ("may in part be one of that" in page) is is_said
