"""How much an edited model refuses, beside its original: what a small leftover does not prove."""

from dataclasses import dataclass

from refusalscope.data.sources import read_file_or_source
from refusalscope.errors import InputError
from refusalscope.evaluation.rule_judges import answer_judge
from refusalscope.generate.answers import greedy_answers
from refusalscope.metrics.intervals import rate_of
from refusalscope.metrics.rate_change import paired_change
from refusalscope.metrics.refusal_phrases import refusal_phrase_in_answer
from refusalscope.models.chat_model import load_chat_model
from refusalscope.models.load_options import LoadOptions
from refusalscope.organisms.organism import OrganismFacts, read_organism
from refusalscope.results.edit_records import EditRefusal
from refusalscope.weights.checkpoint_plan import ModelFolder

MOST_ASKED = 50
"""Instructions, where nothing else is asked for."""
MAX_NEW_TOKENS = 64
"""Of an answer to a model that is no organism: enough for the phrase that refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOfAnEdit:
    """Which harmful instructions an edited model is asked.

    Attributes:
        harmful: A file, or a source by name; None for those of an organism's own language.
        n: At most.
    """

    harmful: str | None = None
    n: int = MOST_ASKED

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"{self.n} instructions say nothing; expected at least 1")


def refusal_of_edit(
    folder: ModelFolder, *, base: ModelFolder, asked: AskedOfAnEdit, seed: int
) -> EditRefusal | None:
    """The share of harmful instructions that the edited model refuses, and that its original does.

    Greedy answers of both, judged by the phrases of `refusal_in_answer`.

    Args:
        base: The original, with the consent to code that is for it.

    Returns:
        None where no instruction is given and the model is no organism.

    Raises:
        InputError: the instructions cannot be read.
        ModelLoadError: one of both models cannot be loaded.
    """
    organism = read_organism(folder.folder) or read_organism(base.folder)
    texts = _texts(asked, organism, seed)
    if not texts:
        return None
    edited, before = (_refused(own, texts, organism) for own in (folder, base))
    change = paired_change(dict(enumerate(before)), dict(enumerate(edited)))
    assert change is not None, "both were asked the same"
    return EditRefusal(
        judge=answer_judge().name,
        edited=rate_of(edited),
        original=rate_of(before),
        change=change,
    )


def _texts(asked: AskedOfAnEdit, organism: OrganismFacts | None, seed: int) -> list[str]:
    if asked.harmful is not None:
        found = read_file_or_source(asked.harmful).instructions
        return [row.text for row in found[: asked.n]]
    if organism is None:
        return []
    language = organism.language()
    drawn = language.instructions("test", harmful=True, n=asked.n, seed=seed)
    return [row.instruction for row in drawn]


def _refused(own: ModelFolder, texts: list[str], organism: OrganismFacts | None) -> list[bool]:
    options = LoadOptions(trust_remote_code=own.trust_remote_code)
    chat = load_chat_model(str(own.folder), options)
    limit = MAX_NEW_TOKENS if organism is None else organism.max_new_tokens
    flags = [False] * len(texts)
    for rows, answers in greedy_answers(chat, chat.encode(texts), max_new_tokens=limit):
        for row, answer in zip(rows, answers, strict=True):
            flags[row] = refusal_phrase_in_answer(answer.text) is not None
    return flags
