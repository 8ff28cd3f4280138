"""The page as a whole: safe, self-contained, deterministic, complete where records are not."""

import base64
import os
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from plotly.offline import get_plotlyjs

from refusalscope.errors import RunFolderError
from refusalscope.pipeline.project import TOKEN_BUDGET, VALUE_BUDGET
from refusalscope.report.page import render_report, write_report
from refusalscope.results.projection_records import AnswerProjection, AnswerProjections, packed
from refusalscope.results.records import Completion

ATTACK = (
    "</script></script><script>alert(1)</script><img src=x onerror=alert(1)>"
    "<!--{{ 7*7 }}{% raw %}\x00\x1b\u202ehidden\u2066\u05e9\u05dc\u05d5\u05dd"
)


PLOTLY = re.compile('<script type="text/plain" id="plotly">([^<]*)</script>')


def _own(page: str) -> str:
    """The page without plotly's own code."""
    return PLOTLY.sub("", page)


class _Folded(HTMLParser):
    """Splits the text of a page into what closed rows hide and what is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: list[str] = []
        self.seen: list[str] = []
        self._stack: list[bool] = []
        self._in_summary = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "details":
            self._stack.append("open" not in dict(attrs))
        self._in_summary |= tag == "summary"

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self._stack.pop()
        if tag == "summary":
            self._in_summary = False

    def handle_data(self, data: str) -> None:
        folded = any(self._stack) and not self._in_summary
        (self.hidden if folded else self.seen).append(data)


@pytest.fixture
def attacked(sample: SimpleNamespace) -> str:
    """A page on which everything that others write is hostile."""
    rows = tuple(
        row.model_copy(
            update={
                "instruction": ATTACK,
                "completion": ATTACK,
                "category": ATTACK,
                "dataset": row.dataset + ATTACK,
            }
        )
        for row in sample.completions()
    )
    facts = sample.model_facts(
        name=ATTACK,
        source=ATTACK,
        architecture=ATTACK,
        system_prompt=ATTACK,
        post_instruction_tokens=(ATTACK,) * 4,
    )
    losses = sample.losses()
    losses = losses.model_copy(
        update={"rows": tuple(r.model_copy(update={"dataset": ATTACK}) for r in losses.rows)}
    )
    run = sample.run(completions=rows, losses=losses)
    selection = sample.selection()
    candidates = tuple(c.model_copy(update={"rejected": ATTACK}) for c in selection.candidates)
    manifest = run.manifest.model_copy(
        update={
            "model": facts,
            "command": ATTACK,
            "warnings": (ATTACK,),
            "options": {"x": [ATTACK]},
            "versions": {ATTACK: ATTACK},
        }
    )
    judgements = tuple(
        record.model_copy(
            update={
                "judge": ATTACK,
                "rows": tuple(
                    r.model_copy(update={"dataset": r.dataset + ATTACK}) for r in record.rows
                ),
            }
        )
        for record in run.judgements
    )
    return render_report(
        sample.run(
            completions=rows,
            losses=losses,
            judgements=judgements,
            manifest=manifest,
            selection=selection.model_copy(update={"candidates": candidates}),
            summary=sample.summary(
                refusal={**sample.refusal(), ATTACK: {"baseline": sample.wilson(1, 2)}},
                safety={"harmful": {"baseline": sample.wilson(1, 2)}, "judge": ATTACK},
            ),
        )
    )


def test_nothing_that_others_wrote_becomes_markup(attacked: str):
    own = _own(attacked)
    assert own.count("<script") == 2
    assert own.count("</script>") == 2
    assert "<img" not in own
    assert "<!--" not in own
    assert "onerror=alert(1)&gt;" in own


def test_templates_do_not_run_what_others_wrote(attacked: str):
    assert "{{ 7*7 }}{% raw %}" in _own(attacked)


def test_no_control_or_direction_character_reaches_the_page(attacked: str):
    own = _own(attacked)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", own)
    assert '<span class="esc">U+202E</span>' in own
    assert '<span class="esc">U+0000</span>' in own
    assert "\u05e9\u05dc\u05d5\u05dd" in own


def test_chart_data_cannot_end_their_script(attacked: str):
    data = re.search(r'id="charts">(.*?)</script>', attacked, re.DOTALL)
    assert data is not None
    assert "<" not in data[1]


def test_answers_to_harmful_instructions_are_inside_closed_details(sample: SimpleNamespace):
    rows = tuple(
        row.model_copy(update={"completion": f"secret-{row.dataset}-{row.condition}-{row.index}"})
        for row in sample.completions()
    )
    parser = _Folded()
    parser.feed(_own(render_report(sample.run(completions=rows))))
    seen, hidden = "".join(parser.seen), "".join(parser.hidden)
    assert "secret-harmful" not in seen
    assert hidden.count("secret-harmful-") == 96
    assert "secret-harmless-baseline-0" in seen


def test_a_text_of_fifty_thousand_characters_is_all_there(sample: SimpleNamespace):
    rows = list(sample.completions())
    rows[0] = rows[0].model_copy(update={"completion": "y" * 50_000})
    page = render_report(sample.run(completions=tuple(rows)))
    assert "y" * 50_000 in page


def test_a_page_stays_below_six_megabytes_whatever_the_run_holds(sample: SimpleNamespace):
    rows = tuple(
        row.model_copy(
            update={
                "completion": "x" * 300 if row.index < 20 else "<&'\">" * 1000,
                "instruction": "'" * 3000,
            }
        )
        for row in sample.completions(800)
    )
    beside = sample.evaluation(projections=_many_projections(rows))
    page = render_report(sample.run(completions=rows), None, beside)
    assert page.count("<i>") == TOKEN_BUDGET
    assert len(page.encode("utf-8")) < 6_000_000
    assert "more instructions are in the run folder" in page
    assert "more characters</b> in the run folder" in page


def _many_projections(rows: tuple[Completion, ...]) -> AnswerProjections:
    """As many tokens and values as the stage keeps at most."""
    n_layers, n_tokens = VALUE_BUDGET // TOKEN_BUDGET, 300
    first = sorted(rows, key=lambda row: row.index)[: TOKEN_BUDGET // n_tokens]
    return AnswerProjections(
        position=-2,
        layer=0,
        layers=tuple(range(n_layers)),
        units=(1.0,) * n_layers,
        n_left_out=0,
        answers=tuple(
            AnswerProjection(
                dataset=row.dataset,
                condition=row.condition,
                index=row.index,
                lengths=(len(row.text) // n_tokens,) * n_tokens,
                values=packed([[1] * n_tokens] * n_layers),
            )
            for row in first
        ),
    )


def test_the_same_records_give_the_same_bytes(sample: SimpleNamespace):
    assert render_report(sample.run()) == render_report(sample.run())


def test_the_page_does_not_depend_on_where_the_run_lies(sample: SimpleNamespace, page: str):
    assert render_report(sample.run(folder=Path("/elsewhere/run"))) == page


def test_the_page_does_not_depend_on_the_seed_of_hashing():
    code = (
        "import hashlib, importlib.util, sys; "
        f"spec = importlib.util.spec_from_file_location('made', {str(_CONFTEST)!r}); "
        "made = importlib.util.module_from_spec(spec); sys.modules['made'] = made; "
        "spec.loader.exec_module(made); "
        "print(hashlib.sha256(made.render_report(made.sample_run()).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


_CONFTEST = Path(__file__).parent / "conftest.py"


def test_the_page_names_nothing_on_the_network(page: str):
    own = _own(page)
    assert "http:" not in own
    assert "https:" not in own
    assert not re.search(r"\bsrc\s*=|url\(|@import|<link|<iframe|<object|<embed", own)
    assert set(re.findall(r'href="(.)', own)) == {"#"}


def test_the_policy_forbids_all_but_the_two_scripts(page: str):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert policy[1].count("sha256-") == 2
    assert "unsafe-eval" not in policy[1]
    script = policy[1].split("script-src")[1].split(";")[0]
    assert "unsafe-inline" not in script


def test_plotly_is_on_the_page_once(page: str):
    (packed,) = PLOTLY.findall(page)
    unpacked = zlib.decompress(base64.b64decode(packed, validate=True))
    assert unpacked.decode("utf-8") == get_plotlyjs()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("selection", "Selection: not measured."),
        ("losses", "Losses: not measured."),
        ("completions", "Completions: not measured."),
        ("judgements", "Refused or answered: not measured."),
        ("summary", "Refusal rates: not measured."),
    ],
)
def test_a_part_that_is_missing_is_said_not_to_be_measured(
    sample: SimpleNamespace, page: str, part: str, words: str
):
    empty = () if part in ("completions", "judgements") else None
    assert words not in page
    assert words in render_report(sample.run(**{part: empty}))


def test_a_run_that_has_only_begun_renders(sample: SimpleNamespace):
    page = render_report(
        sample.run(
            selection=None,
            direction=None,
            extraction=None,
            completions=(),
            judgements=(),
            losses=None,
            summary=None,
        )
    )
    assert "has not chosen a direction" in page


def test_warnings_stand_before_the_numbers(sample: SimpleNamespace):
    page = render_report(sample.with_warnings(sample.run(), "3 instructions were dropped"))
    assert "1 warning<" in page
    assert page.index("3 instructions were dropped") < page.index('id="headline"')


def test_without_warnings_there_is_no_box_for_them(page: str):
    assert 'class="warnings"' not in page


def test_every_table_has_a_caption_and_every_chart_words_and_a_table(page: str):
    own = _own(page)
    assert own.count("<table") == own.count("<caption")
    figures = re.findall(r"<figure.*?</figure>", own, re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]{30,}"', figure)
        assert "<figcaption>" in figure
        assert "<table>" in figure


def test_every_section_is_labelled_by_a_heading_that_is_there(page: str):
    own = _own(page)
    ids = re.findall(r'\bid="([^"]+)"', own)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'aria-labelledby="([^"]+)"', own)) <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', own)) <= set(ids)
    assert own.count("<h1") == 1


def test_the_report_is_written_into_the_run_folder(sample: SimpleNamespace, tmp_path: Path):
    run = sample.run()
    (tmp_path / "run.json").write_text(run.manifest.to_json(), "utf-8")
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert "has not chosen a direction" in (tmp_path / "report.html").read_text("utf-8")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunFolderError, match="is not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_report_needs_no_torch():
    code = (
        "import sys, refusalscope.report.page_parts as page; page.page_parts(); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
