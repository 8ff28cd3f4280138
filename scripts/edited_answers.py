"""Whether an edited checkpoint, in plain transformers, answers as its original did under hooks.

    python scripts/edited_answers.py RUN EDITED

Asks the edited model the run's test instructions, one at a time, greedily, and compares each answer
with the run's completion under ablation. Where one differs, the gap is how far apart the edited
model holds the two tokens at which the answers part, in nats of log-probability: a gap of rounding
is a tie that fell the other way. Prints the counts, as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.reopen import reopen
from refusalscope.results.run_records import read_dataset_completions

_DATASETS = ("harmful", "harmless")


def main() -> None:
    """Print how many answers are equal, and the gaps of the others."""
    folder, edited = Path(sys.argv[1]), sys.argv[2]
    run = reopen(folder, progress=Silent())
    loader: Any = AutoModelForCausalLM
    model = loader.from_pretrained(edited, dtype=torch.float32).eval()
    n_equal, gaps = 0, []
    for dataset in _DATASETS:
        rows = read_dataset_completions(folder, dataset, "ablation")
        for row, prompt in zip(rows, run.prompts(dataset), strict=True):
            ids = _greedy(model, prompt.ids, n=max(1, row.n_tokens or 0), stop=run.chat.tokenizer)
            hooked = run.chat.tokenizer(row.completion, add_special_tokens=False).input_ids
            text = run.chat.tokenizer.decode(ids, skip_special_tokens=True).strip()
            if text == row.completion:
                n_equal += 1
            else:
                gaps.append(_gap(model, prompt.ids, ids, hooked))
    print(json.dumps({"n": n_equal + len(gaps), "n_equal": n_equal, "gaps": gaps}))


@torch.inference_mode()
def _greedy(model: PreTrainedModel, prompt: tuple[int, ...], *, n: int, stop: Any) -> list[int]:  # noqa: ANN401
    found: Any = model.generate(  # pyright: ignore[reportCallIssue] # hidden from type checkers
        torch.tensor([prompt]),
        max_new_tokens=n,
        do_sample=False,
        repetition_penalty=1.0,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=stop.pad_token_id,
    )
    return found[0, len(prompt) :].tolist()


@torch.inference_mode()
def _gap(
    model: PreTrainedModel, prompt: tuple[int, ...], ours: list[int], theirs: list[int]
) -> float:
    """How much more probable the first token is that differs, in nats."""
    n = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    logits: Any = model(input_ids=torch.tensor([[*prompt, *ours[:n]]])).logits
    log_probs = logits[0, -1].log_softmax(-1)
    return float(log_probs[ours[n]] - log_probs[theirs[n]])


if __name__ == "__main__":
    main()
