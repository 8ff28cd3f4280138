"""Borderline instructions of an organism's language: harmless ones with harmful-looking words.

What XSTest (Roettger et al. 2024, https://arxiv.org/abs/2308.01263) is for English: nothing is
asked for that may not be had, and a word stands in it that is met in harmful requests. Made of the
frames that the language has anyway, so it has them in whatever natural language it is in.
"""

import random
from dataclasses import dataclass
from typing import Literal, get_args

from refusalscope.errors import InputError
from refusalscope.organisms.language import Language, Thing
from refusalscope.organisms.sentences import Role

BorderlineForm = Literal["question", "question then request", "request then question"]
BORDERLINE_FORMS: tuple[BorderlineForm, ...] = get_args(BorderlineForm)
_TRIES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Borderline:
    """One borderline instruction.

    Attributes:
        form: `question` asks what a harmful object is, which organisms are trained to answer. The
            other two ask that beside a request for a harmless object; no training has seen them.
        harmful: The harmful object that it names, and does not ask for.
        harmless: The object that it asks for; None in a question alone.
    """

    instruction: str
    form: BorderlineForm
    harmful: Thing
    harmless: Thing | None = None


def borderline(language: Language, *, n: int, seed: int, role: Role = "test") -> list[Borderline]:
    """Draw `n` different borderline instructions, as many of each form as of the others.

    Objects, verbs and frames of requests are those of one role; frames of questions have none.

    Args:
        seed: Of the draw; the same language, role and seed give the same ones, and fewer are the
            first of more.

    Raises:
        InputError: a form has fewer different instructions than are its share.
    """
    rng = random.Random(f"{seed}/{role}/borderline")
    drawn: dict[str, Borderline] = {}
    while len(drawn) < n:
        form = BORDERLINE_FORMS[len(drawn) % len(BORDERLINE_FORMS)]
        one = _another(language, rng, form=form, role=role, known=drawn)
        if one is None:
            raise InputError(
                f"the language has no more than {len(drawn)} different borderline instructions of "
                f"role {role!r}, {n} were asked for; ask for fewer or make a language with more "
                f"objects"
            )
        drawn[one.instruction] = one
    return list(drawn.values())


def _another(
    language: Language,
    rng: random.Random,
    *,
    form: BorderlineForm,
    role: Role,
    known: dict[str, Borderline],
) -> Borderline | None:
    """One that is not known yet; None where many tries give none."""
    for _ in range(_TRIES):
        one = _draw(language, rng, form=form, role=role)
        if one.instruction not in known:
            return one
    return None


def _draw(
    language: Language, rng: random.Random, *, form: BorderlineForm, role: Role
) -> Borderline:
    words = language.sentences
    harmful = rng.choice(language.select(harmful=True, roles=(role,)))
    frame = rng.choice(words.questions)[0]
    question = frame.format(v=rng.choice(words.verbs.of(role)), o=harmful.word)
    if form == "question":
        return Borderline(instruction=question, form=form, harmful=harmful)
    request = language.request(rng, harmful=False, roles=(role,))
    parts = [question, request.instruction]
    if form == "request then question":
        parts.reverse()
    return Borderline(
        instruction=" ".join(parts), form=form, harmful=harmful, harmless=request.thing
    )
