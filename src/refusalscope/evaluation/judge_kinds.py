"""The judges that are models: what each is asked, how its answer is read, what it measures."""

from collections.abc import Callable
from dataclasses import dataclass

from refusalscope.evaluation.grader_prompts import (
    chat_rubric_prompt,
    harmbench_prompt,
    strongreject_prompt,
    yes_no_prompt,
)
from refusalscope.evaluation.guard_prompts import (
    llama_guard_2_prompt,
    llama_guard_3_prompt,
    llama_guard_4_prompt,
    qwen3guard_prompt,
    wildguard_prompt,
)
from refusalscope.evaluation.judge_answers import (
    read_chat_rubric,
    read_harmbench,
    read_llama_guard,
    read_qwen3guard,
    read_strongreject,
    read_wildguard,
    read_yes_no,
)
from refusalscope.evaluation.judge_prompt import JudgePrompt
from refusalscope.evaluation.judges import Verdicts
from refusalscope.results.files import sha256_text
from refusalscope.results.records import Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWord:
    """An answer whose first word is the verdict, so that one forward pass suffices.

    Attributes:
        lead: What the model writes before that word.
        word: The word whose probability is the score.
        against: The word that its probability is weighed against.
        in_any_case: `Yes` is taken for `yes`.
    """

    word: str
    against: str
    lead: str = ""
    in_any_case: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeKind:
    """One kind of judge.

    Attributes:
        name: Short name, also of its files.
        measures: What it gives a verdict on.
        model: The published checkpoint, on the hub; None where any chat model will do.
        one_word: Given where the verdict is the first word of the answer.
        by_rubric: `build` with the user's rubric as `rubric`; None where it takes none.
        keeps_end: A prompt too long for the model loses its beginning, as the judge's authors do
            it; others then give no verdict.
    """

    name: str
    measures: tuple[Measure, ...]
    model: str | None
    build: Callable[[str, str], JudgePrompt]
    read: Callable[[str], Verdicts]
    max_new_tokens: int
    one_word: OneWord | None = None
    keeps_end: bool = False
    edition: str = "2"
    by_rubric: Callable[..., JudgePrompt] | None = None

    @property
    def version(self) -> str:
        """Our edition of the judge and a digest of its prompt."""
        prompt = self.build("instruction", "completion")
        spelled = prompt.text or "\n".join(f"{m.role}: {m.content}" for m in prompt.messages)
        return f"{self.edition}-{sha256_text(spelled)[:12]}"


_TURN_BEGINS = "\n\n"
"""What Llama 3 and 4 write between the header of a turn and its text."""

JUDGES: dict[str, JudgeKind] = {
    kind.name: kind
    for kind in (
        JudgeKind(
            name="llama_guard_2",
            measures=("safety",),
            model="meta-llama/Meta-Llama-Guard-2-8B",
            build=llama_guard_2_prompt,
            read=read_llama_guard,
            max_new_tokens=24,
            one_word=OneWord(word="unsafe", against="safe"),
        ),
        JudgeKind(
            name="llama_guard_3",
            measures=("safety",),
            model="meta-llama/Llama-Guard-3-8B",
            build=llama_guard_3_prompt,
            read=read_llama_guard,
            max_new_tokens=24,
            one_word=OneWord(word="unsafe", against="safe", lead=_TURN_BEGINS),
        ),
        JudgeKind(
            name="llama_guard_4",
            measures=("safety",),
            model="meta-llama/Llama-Guard-4-12B",
            build=llama_guard_4_prompt,
            read=read_llama_guard,
            max_new_tokens=24,
            one_word=OneWord(word="unsafe", against="safe", lead=_TURN_BEGINS),
        ),
        JudgeKind(
            name="qwen3guard",
            measures=("safety", "refusal"),
            model="Qwen/Qwen3Guard-Gen-0.6B",
            build=qwen3guard_prompt,
            read=read_qwen3guard,
            max_new_tokens=64,
        ),
        JudgeKind(
            name="wildguard",
            measures=("safety", "refusal"),
            model="allenai/wildguard",
            build=wildguard_prompt,
            read=read_wildguard,
            max_new_tokens=64,
        ),
        JudgeKind(
            name="harmbench",
            measures=("safety",),
            model="cais/HarmBench-Llama-2-13b-cls",
            build=harmbench_prompt,
            read=read_harmbench,
            max_new_tokens=1,
            one_word=OneWord(word="yes", against="no"),
            keeps_end=True,
        ),
        JudgeKind(
            name="strongreject",
            measures=("refusal",),
            model=None,
            build=strongreject_prompt,
            read=read_strongreject,
            max_new_tokens=512,
        ),
        JudgeKind(
            name="chat",
            measures=("safety", "refusal"),
            model=None,
            build=chat_rubric_prompt,
            read=read_chat_rubric,
            max_new_tokens=64,
            by_rubric=chat_rubric_prompt,
        ),
        JudgeKind(
            name="yes_no",
            measures=("refusal",),
            model=None,
            build=yes_no_prompt,
            read=read_yes_no,
            max_new_tokens=1,
            one_word=OneWord(word="yes", against="no", in_any_case=True),
            by_rubric=yes_no_prompt,
        ),
    )
}
"""By name. Scores are P(unsafe), for harmbench and yes_no P(yes), for strongreject its own, all
within [0, 1]."""
