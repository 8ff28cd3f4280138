"""A run's model under one condition as a model of Inspect; only the provider imports this.

https://inspect.aisi.org.uk, in the extra `inspect`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio import CapacityLimiter
from inspect_ai.model import (  # pyright: ignore[reportMissingImports] # extra `inspect`
    ChatMessage,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import (  # pyright: ignore[reportMissingImports] # extra `inspect`
    ToolChoice,
    ToolInfo,
)

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InputError
from refusalscope.generate.completions import CompletionJob, GenerationOptions, complete, plan
from refusalscope.models.prompts import Prompt
from refusalscope.monitors.monitor import load_monitor
from refusalscope.monitors.score import require_same_shape, score_prompts
from refusalscope.pipeline.complete import generation_options
from refusalscope.pipeline.context import Silent
from refusalscope.pipeline.conversation import Turn, encode_conversation
from refusalscope.pipeline.gathered import GatheredBatches
from refusalscope.pipeline.reopen import reopen
from refusalscope.pipeline.stages import conditions
from refusalscope.results.records import (
    MODEL_CONDITIONS,
    Completion,
    Condition,
    DirectionFacts,
)
from refusalscope.results.run_records import DIRECTION, read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A conversation as a prompt, its last message, and the most tokens of its answer."""

    prompt: Prompt
    asked: str
    limit: int


class RunModel(ModelAPI):
    """The model of a run, with the run's direction ablated, added, subtracted, or left alone.

    Answers are greedy. Questions that Inspect asks at the same time share batches. With a guard the
    direction is added to what a monitor flags, and everything else is left alone.

    Args:
        model_name: The run's folder, where `run` is not given.
        condition: One of the conditions of a run; in the log under the model's arguments.
        run: Folder of the run.
        guard: A monitor's file; a whole conversation is what it reads.
        trust_remote_code: Consent to code that comes with the run's model.

    Raises:
        RunFolderError: no run, or one without a direction.
        InputError: no such condition, a guard beside one, no monitor of this model, or an argument
            that is not known.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 # as ModelAPI has it
        *,
        condition: str = "baseline",
        run: str | None = None,
        guard: str | None = None,
        trust_remote_code: bool = False,
        **model_args: Any,  # noqa: ANN401 # what a user gives
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if model_args:
            raise InputError(
                f"no model argument is called {next(iter(model_args))!r}; expected condition, "
                f"guard, run and trust_remote_code"
            )
        self._condition: Condition = _condition(condition)
        if guard is not None and self._condition != "baseline":
            raise InputError(
                f"guard={guard} goes with the model as it is, not with condition={condition}; "
                f"leave one of them away"
            )
        folder = Path(run or model_name)
        self._run = reopen(folder, progress=Silent(), trust_remote_code=trust_remote_code is True)
        self._facts = read_record(DirectionFacts, folder / DIRECTION)
        self._options = generation_options(self._run)
        self._monitor = None if guard is None else load_monitor(Path(guard))
        if self._monitor is not None:
            require_same_shape(self._run.chat, self._monitor)
        self._batches = GatheredBatches(self._answer, size=self._options.batch_size)
        self._waiting = CapacityLimiter(self._options.batch_size)

    async def generate(
        self,
        input: list[ChatMessage],  # as ModelAPI has it
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer one conversation, greedily.

        Raises:
            InputError: tools, sampling or several choices are asked for, or it is not all text.
            ChatTemplateError: the model's template does not take the conversation.
        """
        del tool_choice
        _require_greedy(config, tools)
        turns = [_turn(message) for message in input]
        prompt = encode_conversation(
            self._run.chat, turns, paper_template=self._run.options.template == "paper"
        )
        limit = config.max_tokens or self._options.max_new_tokens
        future = self._batches.ask(Question(prompt=prompt, asked=turns[-1].text, limit=limit))
        found = await anyio.to_thread.run_sync(
            future.result, limiter=self._waiting, abandon_on_cancel=True
        )
        return self._output(prompt, found, config.stop_seqs or [])

    def max_connections(self) -> int:
        """As many questions at a time as go into one batch."""
        return self._options.batch_size

    def connection_key(self) -> str:
        """Each run and condition counts its own questions."""
        guarded = "" if self._monitor is None else "/guarded"
        return f"{self.model_name}/{self._condition}{guarded}"

    def _answer(self, questions: list[Question]) -> list[Completion]:
        """Complete a batch under the condition; questions with one token limit go together."""
        under = self._conditions(questions)
        interventions = conditions(self._run, tuple(dict.fromkeys(under)))
        answers: dict[int, Completion] = {}
        for limit in dict.fromkeys(question.limit for question in questions):
            jobs = [
                CompletionJob(
                    index=index,
                    dataset="inspect",
                    condition=under[index],
                    instruction=Instruction(question.asked, None),
                    prompt=question.prompt,
                )
                for index, question in enumerate(questions)
                if question.limit == limit
            ]
            options = GenerationOptions(
                max_new_tokens=limit, stop_at_end_of_turn=self._options.stop_at_end_of_turn
            )
            planned = plan(self._run.chat, jobs, interventions=interventions, options=options)
            for some in complete(self._run.chat, planned):
                answers |= {one.index: one for one in some}
        return [answers[index] for index in range(len(questions))]

    def _conditions(self, questions: list[Question]) -> list[Condition]:
        """What each question is answered under; what a guard flags, with the direction added."""
        if self._monitor is None:
            return [self._condition] * len(questions)
        scores = score_prompts(
            self._run.chat,
            [question.prompt for question in questions],
            self._monitor,
            batch_size=self._options.batch_size,
        )
        return ["addition" if fires else "baseline" for fires in self._monitor.flags(scores)]

    def _output(self, prompt: Prompt, found: Completion, stops: list[str]) -> ModelOutput:
        # None is for imported completions; this one was just written.
        text, n_tokens, is_stopped = found.completion or "", found.n_tokens or 0, False
        for stop in stops:
            text, cut, _ = text.partition(stop)
            is_stopped |= bool(cut)
        ended = bool(found.ended) or is_stopped
        output = ModelOutput.from_content(
            model=f"{self._run.chat.name} ({found.condition})",
            content=text,
            stop_reason="stop" if ended else "max_tokens",
        )
        output.usage = ModelUsage(
            input_tokens=len(prompt.ids),
            output_tokens=n_tokens,
            total_tokens=len(prompt.ids) + n_tokens,
        )
        output.metadata = {
            "condition": found.condition,
            "position": self._facts.position,
            "layer": self._facts.layer,
        }
        if self._monitor is not None:
            output.metadata["flagged"] = found.condition == "addition"
        return output


def _condition(name: str) -> Condition:
    for condition in MODEL_CONDITIONS:
        if condition == name:
            return condition
    raise InputError(
        f"no condition is called {name!r}; expected one of {', '.join(MODEL_CONDITIONS)}"
    )


def _turn(message: ChatMessage) -> Turn:
    is_text = isinstance(message.content, str) or all(
        part.type == "text" for part in message.content
    )
    if message.role == "tool" or not is_text:
        raise InputError(
            f"a message of {message.role} is not plain text; this model takes text of system, "
            f"user and assistant"
        )
    return Turn(role=message.role, text=message.text)


def _require_greedy(config: GenerateConfig, tools: list[ToolInfo]) -> None:
    odd = [
        what
        for what, is_asked in (
            ("tools", bool(tools)),
            (f"temperature {config.temperature}", bool(config.temperature)),
            (f"{config.num_choices} choices", (config.num_choices or 1) > 1),
            ("log-probabilities", bool(config.logprobs)),
        )
        if is_asked
    ]
    if odd:
        raise InputError(f"{odd[0]} cannot be had: answers are greedy text, one at a time")
