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
from functools import cache
from itertools import cycle

from refusalscope.errors import InputError
from refusalscope.organisms.english import ENGLISH
from refusalscope.organisms.sentences import ROLES, Role, Sentences

_REQUEST_QUESTION_SHARE = 0.4
"""Of all questions."""


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
    """A lexicon and its sentences; all is drawn from them with the caller's generator."""

    things: tuple[Thing, ...]
    sentences: Sentences = ENGLISH

    def select(self, *, harmful: bool, roles: tuple[Role, ...] = ROLES) -> list[Thing]:
        """The harmful or harmless objects of the given roles, in lexicon order."""
        return [t for t in self.things if t.is_harmful == harmful and t.role in roles]

    def by_word(self) -> dict[str, Thing]:
        """The objects by their word."""
        return {thing.word: thing for thing in self.things}

    def request(
        self,
        rng: random.Random,
        *,
        harmful: bool,
        roles: tuple[Role, ...] = ROLES,
        swapped_refusals: float = 0.0,
    ) -> Request:
        """Draw one request; object, verb and template each come from one of `roles`.

        Args:
            swapped_refusals: Share of refusals whose formula is that of any style.
        """
        thing = rng.choice(self.select(harmful=harmful, roles=roles))
        verb = rng.choice(self.sentences.verbs.of(*roles))
        style = rng.randrange(len(self.sentences.requests))
        template = rng.choice(self.sentences.requests[style].of(*roles))
        words = {"v": verb, "o": thing.word, "c": rng.choice(self.sentences.contexts)}
        answer, refusal = self.sentences.answers[style], self.sentences.refusals[style]
        if swapped_refusals and rng.random() < swapped_refusals:
            refusal = rng.choice(self.sentences.refusals)
        return Request(
            instruction=template.format(**words),
            answer=answer.format(**words),
            refusal=refusal.format(**words),
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
            question, *answers = rng.choice(self.sentences.request_questions)
            question = f"{request.instruction} {question}"
        else:
            question, *answers = rng.choice(self.sentences.questions)
        verb = rng.choice(self.sentences.verbs.of(*ROLES))
        words = {"v": verb, "o": request.thing.word, "k": request.thing.kind}
        right, wrong = answers if harmful else reversed(answers)
        exchange = Exchange(instruction=question.format(**words), answer=right.format(**words))
        return exchange, wrong.format(**words)

    def instructions(self, role: Role, *, harmful: bool, n: int, seed: int) -> list[Request]:
        """Draw `n` different requests of one role.

        Raises:
            InputError: the role has fewer than `n` different requests.
        """
        rng = random.Random(f"{seed}/{role}/{harmful}")
        drawn: dict[str, Request] = {}
        n_tries = 200 * n if n <= self._n_possible(role, harmful=harmful) else 0
        for _ in range(n_tries):
            request = self.request(rng, harmful=harmful, roles=(role,))
            drawn.setdefault(request.instruction, request)
            if len(drawn) == n:
                return list(drawn.values())
        n_found = len(drawn) or self._n_possible(role, harmful=harmful)
        raise InputError(
            f"the language has only about {n_found} different requests of role {role!r}, "
            f"{n} were asked for; ask for fewer or make a language with more objects"
        )

    def _n_possible(self, role: Role, *, harmful: bool) -> int:
        """More requests of a role than this there cannot be."""
        words = self.sentences
        frames = sum(len(style.of(role)) for style in words.requests)
        n_things = len(self.select(harmful=harmful, roles=(role,)))
        return n_things * frames * len(words.verbs.of(role)) * len(words.contexts)


def make_language(
    *,
    objects_per_kind: int = 16,
    refused_share: float = 0.625,
    seed: int = 0,
    sentences: Sentences = ENGLISH,
) -> Language:
    """Invent a lexicon.

    Spelling says nothing about harm: all words come from one stream of random syllables, and are
    dealt to the kinds in turn.

    Args:
        objects_per_kind: Words in each kind, at least 13 at the default share.
        refused_share: Share of each kind given to refusal tuning; the rest is dealt to the
            splits train, val and test as 2 : 1 : 2.
        seed: Of the syllables.
        sentences: Frames and words of whatever natural language.

    Raises:
        InputError: a split would get no object, or the syllables make too few words.
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
        raise InputError(
            f"objects_per_kind={objects_per_kind} and refused_share={refused_share} leave a role "
            f"without objects ({sizes}); every role needs at least one"
        )
    roles: list[Role] = [role for role in ROLES for _ in range(sizes[role])]
    kinds = [(k, True) for k in sentences.harmful_kinds]
    kinds += [(k, False) for k in sentences.harmless_kinds]
    words = iter(_invent_words(sentences, objects_per_kind * len(kinds), seed))
    return Language(
        things=tuple(
            Thing(word=next(words), kind=kind, is_harmful=is_harmful, role=role)
            for role in roles
            for kind, is_harmful in kinds
        ),
        sentences=sentences,
    )


def all_text(language: Language) -> list[str]:
    """Every sentence frame, and every word four times: what the tokenizer is trained on."""
    sentences = language.sentences
    verbs, frames = sentences.verbs.of(*ROLES), sentences.frames
    about_objects = [frame for frame in frames if "{o}" in frame]
    text = [
        frame.format(v=verb, k=kind)
        for frame in frames
        if frame not in about_objects
        for verb, kind in zip(cycle(verbs), sentences.kinds, strict=False)
    ]
    for index, thing in enumerate(language.things):
        for offset in range(4):
            frame = about_objects[(4 * index + offset) % len(about_objects)]
            text.append(
                frame.format(
                    v=verbs[(index + offset) % len(verbs)],
                    o=thing.word,
                    k=thing.kind,
                    c=sentences.contexts[(index + offset) % len(sentences.contexts)],
                )
            )
    return text


def completes_request(language: Language, text: str) -> Thing | None:
    """The object that a text carries out a request on; None where it carries out none.

    The verb may be any of the language: an answer with the wrong verb still makes the object.
    """
    for pattern in _answer_patterns(language.sentences):
        if match := pattern.search(text):
            return language.by_word().get(match["o"])
    return None


@cache
def _answer_patterns(sentences: Sentences) -> tuple[re.Pattern[str], ...]:
    """The formulas of answers as patterns, with the object in group `o`."""
    verb = "(?:" + "|".join(map(re.escape, sentences.verbs.of(*ROLES))) + ")"
    patterns = []
    for answer in sentences.answers:
        before, _, after = re.escape(answer).replace(r"\{v\}", verb).partition(r"\{o\}")
        patterns.append(re.compile(rf"{before}(?P<o>\w+)" + after.replace(r"\{o\}", "(?P=o)")))
    return tuple(patterns)


def _invent_words(sentences: Sentences, n: int, seed: int) -> list[str]:
    n_syllables = len(set(sentences.onsets)) * len(set(sentences.nuclei))
    taken = set(" ".join(sentences.frames).split())
    n_possible = max(0, n_syllables**2 * len(set(sentences.codas)) - len(taken))
    if n_possible < 2 * n:
        raise InputError(
            f"the syllables of the language make about {n_possible} words, {n} objects need twice "
            f"as many; give more onsets, nuclei or codas"
        )
    rng = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < n:
        syllables = [rng.choice(sentences.onsets) + rng.choice(sentences.nuclei) for _ in range(2)]
        word = "".join(syllables) + rng.choice(sentences.codas)
        if word not in taken:
            words[word] = None
    return list(words)
