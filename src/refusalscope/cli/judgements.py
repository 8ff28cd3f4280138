"""What judges found, as the commands print it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refusalscope.cli.terminal import say
from refusalscope.results.records import Judgements
from refusalscope.results.run_records import EVALUATION


def judgement_rows(records: Sequence[Judgements]) -> list[dict[str, Any]]:
    """Each judge with its rates, for JSON."""
    from refusalscope.evaluation.judges import rates_by_condition

    return [
        {
            "judge": record.judge,
            "measures": record.measures,
            "version": record.version,
            "model": record.model,
            "n": len(record.rows),
            "n_unparsed": record.n_unparsed,
            "rates": {
                dataset: {name: rate.model_dump() for name, rate in own.items()}
                for dataset, own in rates_by_condition(record).items()
            },
        }
        for record in records
    ]


def say_judgements(records: Sequence[Judgements], run_folder: Path) -> None:
    """A line for each judge, with its rates."""
    for row in judgement_rows(records):
        shown = "; ".join(
            f"{dataset} " + ", ".join(f"{name} {rate['rate']:.2f}" for name, rate in own.items())
            for dataset, own in row["rates"].items()
        )
        unread = f", no verdict on {row['n_unparsed']} of {row['n']}"
        say(
            f"{row['judge']}: {row['measures']} {shown or 'of nothing'}"
            f"{unread if row['n_unparsed'] else ''}; "
            f"{run_folder / EVALUATION / row['judge']}.json"
        )
