"""Texts of an organism's language in the place of the paper's: plain, and answered requests."""

import json
import random
from pathlib import Path

from refusalscope.organisms.language import Language
from refusalscope.results.files import write_file

PLAIN = "pile.jsonl"
ANSWERED = "alpaca.json"
_SENTENCES = 4


def write_organism_texts(language: Language, folder: Path, *, n: int = 200, seed: int = 0) -> None:
    """Write `n` documents without a template and `n` harmless test requests with their answers.

    A document is a few answers to questions about objects, one behind the other. The files have
    the form of monology/pile-uncopyrighted and of tatsu-lab/alpaca.
    """
    rng = random.Random(f"{seed}/{PLAIN}")
    documents = [
        " ".join(language.question(rng).answer for _ in range(_SENTENCES)) for _ in range(n)
    ]
    write_file(folder / PLAIN, "".join(json.dumps({"text": text}) + "\n" for text in documents))
    requests = language.instructions("test", harmful=False, n=n, seed=seed)
    rows = [{"instruction": r.instruction, "input": "", "output": r.answer} for r in requests]
    write_file(folder / ANSWERED, json.dumps(rows, indent=1) + "\n")
