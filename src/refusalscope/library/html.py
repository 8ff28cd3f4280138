"""What a result shows of itself in a notebook: a small table, everything in it escaped."""

from collections.abc import Sequence

from markupsafe import Markup

from refusalscope.report.visible_text import visible_html

_CELL = Markup('<{tag} style="text-align:left"><bdi>{text}</bdi></{tag}>')


def html_table(
    title: str,
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    sentences: Sequence[str] = (),
) -> str:
    """A title, sentences and a table, in which nothing that a model or a file says can act."""
    lines = [Markup("<p><b><bdi>{}</bdi></b></p>").format(visible_html(title))]
    lines += [Markup("<p><bdi>{}</bdi></p>").format(visible_html(text)) for text in sentences]
    if rows:
        body = Markup("").join(_row(row, "td") for row in rows)
        head = _row(header, "th") if header else Markup("")
        lines.append(Markup("<table>{}{}</table>").format(head, body))
    return str(Markup("<div>{}</div>").format(Markup("").join(lines)))


def _row(cells: Sequence[str], tag: str) -> Markup:
    inner = Markup("").join(_CELL.format(tag=tag, text=visible_html(text)) for text in cells)
    return Markup("<tr>{}</tr>").format(inner)
