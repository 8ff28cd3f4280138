"""The comparison with fine-tuning on the command line."""

from collections.abc import Iterator, Sequence

from refusalscope.results.finetune_records import FinetuneComparison


def lines(records: Sequence[FinetuneComparison]) -> Iterator[str]:
    """A line for each variant of the model."""
    for row in records[0].rows:
        rates = [f"{name} {rate.rate:.2f}" for name, rate in row.rates.items()]
        losses = [f"{name} {loss:.3f} nats per token" for name, loss in row.losses.items()]
        yield f"{row.variant}: {', '.join([*rates, *losses])}"
