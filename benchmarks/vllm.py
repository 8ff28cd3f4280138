"""vLLM under ablation beside plain vLLM, and its texts beside those of transformers.

Tokens per second of the same prompts, all written to the token limit so that both write as many, in
turn in one process. Then the texts of both engines up to the end of turn: for each that differs,
the nats between the two likeliest tokens where they part, by the row alone in transformers.

    python benchmarks/vllm.py MODEL --vllm-python PYTHON --instructions FILE [--direction RUN]
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from completions import gap_where_they_part

from refusalscope.data.read import read_instructions
from refusalscope.directions.direction import load_direction
from refusalscope.generate.answers import chat_stream
from refusalscope.generate.completions import (
    CompletionJob,
    GenerationOptions,
    Plan,
    asked_of,
    complete,
    plan,
)
from refusalscope.generate.vllm_engine import VllmEngine, VllmOptions, vllm_engine
from refusalscope.interventions.intervention import Intervention, condition_intervention
from refusalscope.models.chat_model import ChatModel, load_chat_model
from refusalscope.organisms.organism import resolve_model
from refusalscope.results.records import Condition
from refusalscope.results.scratch import temporary_folder

CONDITIONS: tuple[Condition, ...] = ("baseline", "ablation")


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--vllm-python", required=True)
    parser.add_argument("--instructions", required=True)
    parser.add_argument("--direction", help="Folder of a run; else a random direction.")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = compare(given)
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name}: {value}")


def compare(given: argparse.Namespace) -> dict[str, object]:
    """Both conditions in turn, `repeats` times; the ratio is that of the median rates."""
    chat = load_chat_model(resolve_model(given.model))
    jobs, planned = _planned(chat, given)
    with temporary_folder() as folder:
        options = VllmOptions(python=given.vllm_python)
        with vllm_engine(chat, planned, options, log=folder / "log") as (engine, proof):
            rates: dict[Condition, list[float]] = {name: [] for name in CONDITIONS}
            for _ in range(given.repeats):
                for name in CONDITIONS:
                    rates[name].append(_rate(engine, planned, jobs, name))
            theirs = {row.slot: row for rows in engine.complete(planned) for row in rows}
    own = {row.slot: row for rows in complete(chat, planned) for row in rows}
    parted = [slot for slot in own if own[slot].token_ids != theirs[slot].token_ids]
    by_slot = {job.slot: job for job in jobs}
    asked = {
        slot: asked_of(chat, by_slot[slot], planned.interventions, planned.options) for slot in own
    }
    stream = chat_stream(chat, list(asked.values()), stop_at_end_of_turn=True, batch_size=1)
    gaps = [
        gap_where_they_part(
            stream, asked[slot], own[slot].token_ids or (), theirs[slot].token_ids or ()
        )
        for slot in parted
        if stream is not None
    ]
    medians = {name: statistics.median(rates[name]) for name in CONDITIONS}
    return {
        "compared": "tokens per second of vLLM under ablation over those of plain vLLM",
        "ratio": medians["ablation"] / medians["baseline"],
        "agree": f"{len(own) - len(parted)} of {len(own)} texts of vLLM and transformers",
        "gaps_where_they_part": gaps,
        "largest_log_probability_difference": max(row.largest for row in proof.rows),
        "n": len(jobs) // len(CONDITIONS),
        "max_new_tokens": given.max_new_tokens,
        "repeats": given.repeats,
        "vllm": proof.version,
    }


def _planned(chat: ChatModel, given: argparse.Namespace) -> tuple[list[CompletionJob], Plan]:
    rows = read_instructions(Path(given.instructions))[: given.n]
    if given.direction is None:
        generator = torch.Generator().manual_seed(0)
        vector, layer = torch.randn(chat.d_model, generator=generator), chat.n_layers // 2
    else:
        found = load_direction(Path(given.direction), d_model=chat.d_model)
        vector, layer = found.vector, found.layer or 0
    jobs = [
        CompletionJob(index=i, dataset="given", condition=name, instruction=row, prompt=prompt)
        for i, (row, prompt) in enumerate(
            zip(rows, chat.encode([row.text for row in rows]), strict=True)
        )
        for name in CONDITIONS
    ]
    edits: dict[Condition, Intervention | None] = {
        name: condition_intervention(name, vector=vector, layer=layer, control_seed=0)
        for name in CONDITIONS
    }
    options = GenerationOptions(max_new_tokens=given.max_new_tokens)
    return jobs, plan(chat, jobs, interventions=edits, options=options)


def _rate(
    engine: VllmEngine, planned: Plan, jobs: list[CompletionJob], condition: Condition
) -> float:
    """Tokens per second of one condition, every text written to the limit."""
    own = [job for job in jobs if job.condition == condition]
    options = GenerationOptions(
        max_new_tokens=planned.options.max_new_tokens, stop_at_end_of_turn=False
    )
    written = replace(planned, groups=[own], options=options)
    began = time.perf_counter()
    n_tokens = sum(row.n_tokens or 0 for rows in engine.complete(written) for row in rows)
    return n_tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
