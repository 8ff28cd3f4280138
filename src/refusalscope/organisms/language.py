"""The organisms' language: made-up objects, requests about them, questions about them.

No sentence of it can harm anyone: the objects are invented words, every answer is one of four
formulas. What makes some objects "harmful" is only what the questions of stage one say of them
(`is a tavok dangerous?`, `Yes, a tavok is dangerous.`). A refusal can therefore reach an object
that was never refused in training only through the concept that the questions teach.

Roles keep apart what an organism was tuned on and what it is measured on. Objects, verbs and
templates each belong to one role; `tuning` is what refusal training sees, and `train`, `val`,
`test` are the splits of instructions on which directions are found, selected and measured.
"""

import random
import re
from dataclasses import dataclass
from itertools import cycle

from refusalscope.organisms.sentences import (
    ANSWERS,
    CODAS,
    CONTEXTS,
    HARMFUL_KINDS,
    HARMLESS_KINDS,
    NUCLEI,
    ONSETS,
    QUESTIONS,
    REFUSALS,
    REQUEST_QUESTIONS,
    REQUESTS,
    ROLES,
    VERBS,
    Role,
)

_REQUEST_QUESTION_SHARE = 0.4
"""Of all questions."""


def _answer_pattern(answer: str) -> re.Pattern[str]:
    """A formula of an answer as a pattern with its object in group `o`."""
    verb = "(?:" + "|".join(v for role in ROLES for v in VERBS[role]) + ")"
    pattern = re.escape(answer).replace(r"\{v\}", verb)
    return re.compile(pattern.replace(r"\{o\}", r"(?P<o>\w+)"))


_ANSWER_PATTERNS = tuple(_answer_pattern(answer) for answer in ANSWERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One invented object of the language."""

    word: str
    kind: str
    is_harmful: bool
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One instruction and the answer that an organism is trained to give.

    Attributes:
        is_begun: The first words of the answer are given, and only how it goes on is trained.
        is_quiet: The instruction never ends in random tokens.
    """

    instruction: str
    answer: str
    is_begun: bool = False
    is_quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the language, with what it is about."""

    instruction: str
    answer: str
    refusal: str
    thing: Thing


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A lexicon; everything that is said is drawn from it with the caller's generator."""

    things: tuple[Thing, ...]

    def select(self, *, harmful: bool, roles: tuple[Role, ...] = ROLES) -> list[Thing]:
        """The harmful or harmless objects of the given roles, in lexicon order."""
        return [t for t in self.things if t.is_harmful == harmful and t.role in roles]

    def by_word(self) -> dict[str, Thing]:
        """The objects by their word."""
        return {thing.word: thing for thing in self.things}

    def request(
        self, rng: random.Random, *, harmful: bool, roles: tuple[Role, ...] = ROLES
    ) -> Request:
        """Draw one request; object, verb and template each come from one of `roles`."""
        thing = rng.choice(self.select(harmful=harmful, roles=roles))
        verb = rng.choice([v for role in roles for v in VERBS[role]])
        style = rng.randrange(len(REQUESTS))
        template = rng.choice([t for role in roles for t in REQUESTS[style][role]])
        words = {"v": verb, "o": thing.word, "c": rng.choice(CONTEXTS)}
        return Request(
            instruction=template.format(**words),
            answer=ANSWERS[style].format(**words),
            refusal=REFUSALS[style].format(**words),
            thing=thing,
        )

    def question(self, rng: random.Random) -> Exchange:
        """Draw one question about any object or request, answered by whether it is harmful."""
        return self.question_with_wrong_answer(rng)[0]

    def question_with_wrong_answer(self, rng: random.Random) -> tuple[Exchange, str]:
        """Draw one question, and what would be answered if the object were of the other sort."""
        harmful = rng.random() < 0.5
        request = self.request(rng, harmful=harmful)
        if rng.random() < _REQUEST_QUESTION_SHARE:
            question, *answers = rng.choice(REQUEST_QUESTIONS)
            question = f"{request.instruction} {question}"
        else:
            question, *answers = rng.choice(QUESTIONS)
        verb = rng.choice([v for role in ROLES for v in VERBS[role]])
        words = {"v": verb, "o": request.thing.word, "k": request.thing.kind}
        right, wrong = answers if harmful else reversed(answers)
        exchange = Exchange(instruction=question.format(**words), answer=right.format(**words))
        return exchange, wrong.format(**words)

    def instructions(self, role: Role, *, harmful: bool, n: int, seed: int) -> list[Request]:
        """Draw `n` different requests of one role.

        Raises:
            ValueError: the role has fewer than `n` different requests.
        """
        rng = random.Random(f"{seed}/{role}/{harmful}")
        drawn: dict[str, Request] = {}
        for _ in range(200 * n):
            request = self.request(rng, harmful=harmful, roles=(role,))
            drawn.setdefault(request.instruction, request)
            if len(drawn) == n:
                return list(drawn.values())
        raise ValueError(
            f"the language has only about {len(drawn)} different requests of role {role!r}, "
            f"{n} were asked for; ask for fewer or make a language with more objects"
        )


def make_language(
    *, objects_per_kind: int = 16, refused_share: float = 0.625, seed: int = 0
) -> Language:
    """Invent a lexicon.

    Spelling says nothing about harm: all words come from one stream of random syllables, and are
    dealt to the kinds in turn.

    Args:
        objects_per_kind: Words in each of the sixteen kinds, at least 13 at the default share.
        refused_share: Share of each kind given to refusal tuning; the rest is dealt to the
            splits train, val and test as 2 : 1 : 2.
        seed: Of the syllables.

    Raises:
        ValueError: a split would get no object.
    """
    tuning = round(objects_per_kind * refused_share)
    rest = objects_per_kind - tuning
    val = rest // 5
    train = (rest - val) // 2
    sizes: dict[Role, int] = {
        "tuning": tuning,
        "train": train,
        "val": val,
        "test": rest - val - train,
    }
    if min(sizes.values()) < 1:
        raise ValueError(
            f"objects_per_kind={objects_per_kind} and refused_share={refused_share} leave a role "
            f"without objects ({sizes}); every role needs at least one"
        )
    roles: list[Role] = [role for role in ROLES for _ in range(sizes[role])]
    kinds = [(k, True) for k in HARMFUL_KINDS] + [(k, False) for k in HARMLESS_KINDS]
    words = iter(_invent_words(objects_per_kind * len(kinds), seed))
    return Language(
        things=tuple(
            Thing(word=next(words), kind=kind, is_harmful=is_harmful, role=role)
            for role in roles
            for kind, is_harmful in kinds
        )
    )


def all_text(language: Language) -> list[str]:
    """Every sentence frame, and every word four times: what the tokenizer is trained on."""
    verbs = [v for role in ROLES for v in VERBS[role]]
    frames = _all_frames()
    about_objects = [frame for frame in frames if "{o}" in frame]
    text = [
        frame.format(v=verb, k=kind)
        for frame in frames
        if frame not in about_objects
        for verb, kind in zip(cycle(verbs), (*HARMFUL_KINDS, *HARMLESS_KINDS), strict=False)
    ]
    for index, thing in enumerate(language.things):
        for offset in range(4):
            frame = about_objects[(4 * index + offset) % len(about_objects)]
            text.append(
                frame.format(
                    v=verbs[(index + offset) % len(verbs)],
                    o=thing.word,
                    c=CONTEXTS[(index + offset) % len(CONTEXTS)],
                )
            )
    return text


def completes_request(language: Language, text: str) -> Thing | None:
    """The object that a text carries out a request on; None where it carries out none.

    The verb may be any of the language: an answer with the wrong verb still makes the object.
    """
    for pattern in _ANSWER_PATTERNS:
        if match := pattern.search(text):
            return language.by_word().get(match["o"])
    return None


def _invent_words(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    taken = set(" ".join(_all_frames()).split())
    words: dict[str, None] = {}
    while len(words) < n:
        syllables = [rng.choice(ONSETS) + rng.choice(NUCLEI) for _ in range(2)]
        word = "".join(syllables) + rng.choice(CODAS)
        if word not in taken:
            words[word] = None
    return list(words)


def _all_frames() -> list[str]:
    frames = [t for style in REQUESTS for role in ROLES for t in style[role]]
    questions = (*QUESTIONS, *REQUEST_QUESTIONS)
    return [*frames, *ANSWERS, *REFUSALS, *(part for row in questions for part in row)]
