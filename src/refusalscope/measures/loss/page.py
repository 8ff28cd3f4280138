"""Which texts are asked for, and what a record says of its own.

The page has them with the losses of a run.
"""

from collections.abc import Iterator, Mapping, Sequence

from refusalscope.errors import InputError
from refusalscope.pipeline.evaluation_options import LossOptions
from refusalscope.results.loss_records import TextLosses, TextName


def names(options: LossOptions) -> Sequence[TextName]:
    """The texts that are asked for.

    Raises:
        InputError: none is.
    """
    asked: dict[TextName, bool] = {
        "pile": options.pile is not None,
        "alpaca": options.alpaca is not None,
        "on_distribution": options.on_distribution,
    }
    if not any(asked.values()):
        raise InputError("give at least one of --pile FILE, --alpaca FILE and --on-distribution")
    return [name for name, is_asked in asked.items() if is_asked]


def says(record: TextLosses) -> Mapping[str, object]:
    """The same, as the record says it."""
    return {
        "number of texts": record.n_asked,
        "limit of tokens in a document": record.max_tokens,
        "texts": record.sha256,
    }


def lines(records: Sequence[TextLosses]) -> Iterator[str]:
    """A line for each text."""
    for record in records:
        shown = ", ".join(f"{row.condition} {row.loss:.3f}" for row in record.rows)
        size = f"{record.rows[0].n_texts} texts, {record.rows[0].n_tokens} tokens"
        yield f"{record.text}: {shown} nats per token ({size})"
