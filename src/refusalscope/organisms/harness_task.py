"""A multiple-choice task for lm-evaluation-harness, made from an organism's language."""

import json
import random
from pathlib import Path

from refusalscope.errors import InputError
from refusalscope.organisms.language import Language
from refusalscope.results.files import write_file
from refusalscope.results.record import canonical_json

ORGANISM_TASK = "organism_language"


def write_organism_task(language: Language, folder: Path, *, n: int = 200, seed: int = 0) -> None:
    """Write the task's YAML and its documents: questions with a right and a wrong answer.

    The wrong answer is what would be said of an object of the other sort. Which of the two comes
    first is drawn.

    Raises:
        InputError: the language has fewer questions.
    """
    rng = random.Random(f"{seed}/{ORGANISM_TASK}")
    documents: dict[str, str] = {}
    for _ in range(200 * n):
        exchange, wrong = language.question_with_wrong_answer(rng)
        choices = [exchange.answer, wrong]
        right = rng.randrange(2)
        row = {
            "question": exchange.instruction,
            "choices": choices if right == 0 else choices[::-1],
            "answer": right,
        }
        documents.setdefault(exchange.instruction, json.dumps(row))
        if len(documents) == n:
            break
    else:
        raise InputError(
            f"the language has only about {len(documents)} different questions, the task needs "
            f"{n}; give it more objects or questions"
        )
    rows = folder / f"{ORGANISM_TASK}.jsonl"
    write_file(rows, "".join(row + "\n" for row in documents.values()))
    metric = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    # JSON is YAML.
    task = {
        "task": ORGANISM_TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [metric],
    }
    write_file(folder / f"{ORGANISM_TASK}.yaml", canonical_json(task))
