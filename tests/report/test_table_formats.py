"""Tables for papers and pages: what stands in them is what was measured, and no markup of ours."""

from refusalscope.report.table_formats import (
    column_groups,
    shown_rows,
    table_latex,
    table_markdown,
)
from refusalscope.results.paper_table import PaperTable, TableColumn, TableRow, TableValue

TABLE = PaperTable(
    number=5,
    caption="Made up & more",
    columns=(
        TableColumn(name="layer", label="Layer", kind="integer"),
        TableColumn(name="asr", label="ASR", kind="rate", unit="percent", group="general"),
        TableColumn(name="loss", label="loss", kind="loss", unit="nats per token", group="Pile"),
        TableColumn(name="text", label="Tokens", kind="text"),
    ),
    rows=(
        TableRow(
            model="m_1",
            source="ours",
            run="run_a",
            values={
                "layer": TableValue(value=3),
                "asr": TableValue(value=12.34, n=100, low=7.2, high=20.1),
                "loss": TableValue(value=-0.0004),
                "text": TableValue(value="a|b\n$x_1$ \\ 50%"),
            },
        ),
        TableRow(
            model="m_1",
            variant="lora",
            source="difference",
            run="run_a",
            values={
                "layer": TableValue(value=0),
                "asr": TableValue(value=1.26),
                "loss": TableValue(value=-0.5),
                "text": None,
            },
        ),
    ),
    source="nowhere",
    notes=("a note with_underscore",),
)


def test_numbers_have_the_digits_of_their_unit_and_rates_their_interval() -> None:
    ours, difference = shown_rows(TABLE)
    assert ours.cells[:3] == ("3", "12.3 (7.2\N{EN DASH}20.1)", "0.000")
    assert difference.cells == ("0", "+1.3", "\N{MINUS SIGN}0.500", "")
    assert (ours.source, difference.model) == ("ours (run_a)", "m_1, lora")


def test_groups_span_their_columns() -> None:
    assert column_groups(TABLE) == (("", 1), ("general", 1), ("Pile", 1), ("", 1))


def test_latex_shows_every_sign_as_it_is() -> None:
    text = table_latex(TABLE)
    assert r"m\_1 & ours (run\_a) & 3 & 12.3 (7.2--20.1) & 0.000 & " in text
    assert r"a\textbar{}b\textbackslash{}n\$x\_1\$ \textbackslash{} 50\% \\" in text
    assert r"\caption{Made up \& more." in text
    assert r"$-$0.500" in text
    assert r" &  & \multicolumn{1}{c}{} & \multicolumn{1}{c}{general}" in text
    assert text.count(r"\begin{tabular}{llrrrr}") == 1
    assert r"a note with\_underscore" in text


def test_markdown_keeps_its_columns_whatever_a_cell_holds() -> None:
    lines = table_markdown(TABLE).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {7}
    assert r"a\|b\\n$x\_1$ \\ 50%" in rows[2]
    assert lines[-1] == r"- a note with\_underscore"
