"""A loaded chat model, as the library hands it out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refusalscope.data.instruction import Instruction
from refusalscope.errors import InputError
from refusalscope.generate.completions import (
    CompletionJob,
    GenerationOptions,
    complete,
    plan,
)
from refusalscope.interventions.intervention import Intervention
from refusalscope.library.given import Asked, as_instructions
from refusalscope.library.html import html_table
from refusalscope.library.options import options_of
from refusalscope.models.chat_model import ChatModel, load_chat_model, require_source
from refusalscope.models.threads import suited_threads
from refusalscope.organisms.organism import OrganismFacts, read_organism, resolve_model
from refusalscope.pipeline.answer_lengths import answer_tokens
from refusalscope.pipeline.options import RunOptions
from refusalscope.report.visible_text import vocabulary_label
from refusalscope.results.records import Condition

LOADING = (
    *("model", "revision", "dtype", "device", "trust_remote_code"),
    *("system", "template", "answer_prefix"),
)
"""The options of a run that say how its model is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Model:
    """A chat model that can be asked, intervened on and edited; `load` makes one.

    Attributes:
        chat: Weights, tokenizer, prompt format and anatomy, for what the library does not do.
        organism: Facts of an organism; None for other models.
        options: How it was loaded, among the options of a run.
        is_edited: Whether its weights are those of `orthogonalize` and no longer those of its name.

    Examples:
        >>> import refusalscope as rs
        >>> model = rs.load("organism:llama3-aft")
        >>> model.n_layers, model.d_model
        (12, 96)
    """

    chat: ChatModel
    organism: OrganismFacts | None
    options: RunOptions
    is_edited: bool = False

    @property
    def source(self) -> str:
        """What it was loaded by: a folder, a hub id, a GGUF file or `organism:NAME`."""
        return self.options.model

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return self.chat.n_layers

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.chat.d_model

    def answer(
        self, instructions: Asked, *, max_new_tokens: int | None = None, batch_size: int = 64
    ) -> list[str]:
        """What the model answers, greedily, under whatever interventions are open on it.

        Args:
            instructions: One or several; each alone in a chat, through the model's own template.
            max_new_tokens: Of each answer at most. None is 512, or what an organism says is enough.
                An answer ends where the model's context does, too.
            batch_size: Prompts side by side. A batch that does not fit into memory is halved.

        Returns:
            One text an instruction, in their order; without the token that ends the turn.

        Raises:
            InputError: no instruction, a blank one, one that does not fit into the context, or a
                count below 1.

        Examples:
            >>> import refusalscope as rs
            >>> model = rs.load("organism:llama3-aft")
            >>> len(model.answer(["how might i get a boplin?", "what is a wesket?"]))
            2
        """
        asked = as_instructions(instructions)
        own = options_of(max_new_tokens=max_new_tokens, batch_size=batch_size)
        return answers_under(self, asked, own, [None] * len(asked))

    def _facts(self) -> dict[str, str]:
        chat = self.chat
        tail = chat.tokenizer.convert_ids_to_tokens(list(chat.prompt_format.post_instruction))
        return {
            "architecture": type(chat.model).__name__,
            "layers": str(chat.n_layers),
            "d_model": str(chat.d_model),
            "numbers": f"{str(chat.model.dtype).removeprefix('torch.')} on {chat.device}",
            "residual writers": str(len(chat.anatomy.all_writers)),
            "post-instruction tokens": " ".join(vocabulary_label(token) for token in _texts(tail)),
        }

    def __repr__(self) -> str:
        edited = ", edited" if self.is_edited else ""
        return f"Model({self.source!r}, {self.n_layers} layers, d_model {self.d_model}{edited})"

    def _repr_html_(self) -> str:
        edited = " (edited in memory)" if self.is_edited else ""
        return html_table(f"{self.source}{edited}", list(self._facts().items()))


def answers_under(
    model: Model,
    asked: Sequence[Instruction],
    own: RunOptions,
    edits: Sequence[Intervention | None],
) -> list[str]:
    """What a model answers with an intervention, or none, for each instruction.

    Args:
        own: Options of a run, for token limit and batch size.
        edits: At most one that is not None, any number of times.
    """
    chat = model.chat
    prompts = chat.encode([one.text for one in asked])
    jobs = [
        CompletionJob(
            index=index,
            dataset="given",
            condition="baseline" if edits[index] is None else "addition",
            instruction=instruction,
            prompt=prompt,
        )
        for index, (instruction, prompt) in enumerate(zip(asked, prompts, strict=True))
    ]
    options = GenerationOptions(
        max_new_tokens=answer_tokens(own, model.organism), batch_size=own.batch_size
    )
    answers = [""] * len(jobs)
    under: dict[Condition, Intervention | None] = {job.condition: edits[job.index] for job in jobs}
    with suited_threads(chat):
        planned = plan(chat, jobs, interventions=under, options=options)
        for some in complete(chat, planned):
            for row in some:
                answers[row.index] = row.text
    return answers


def _texts(tokens: str | Iterable[str]) -> list[str]:
    return [tokens] if isinstance(tokens, str) else list(tokens)


def load(
    model: str | Path,
    *,
    revision: str | None = None,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    system: str | None = None,
    template: Literal["model", "paper"] = "model",
    answer_prefix: str | None = None,
) -> Model:
    """Load a decoder-only chat model, and measure what writes to its residual stream.

    Args:
        model: A folder, a hub id, a GGUF file, or `organism:NAME` for a bundled organism.
        revision: Of a hub id.
        dtype: `auto` is float32 on a CPU and the checkpoint's own type on an accelerator.
        device: `auto`, `cpu`, `cuda:1`, ..., or `spread` to lay the layers over all accelerators.
        trust_remote_code: Run code that the model brings.
        system: System prompt; None is what the template writes by itself.
        template: `paper` for the template of the paper's code, in its families.
        answer_prefix: What every answer begins with, put into the prompt. None lets
            `find_direction` look for it where a run would; an empty text is none.

    Raises:
        InputError: no such model, not a decoder, no chat template, damaged or incomplete weights,
            or an option that does not exist.
        AnatomyError: the residual writers do not add up.
        NumericalError: NaN or infinity in the weights.

    Examples:
        >>> import refusalscope as rs
        >>> rs.load("organism:llama3-aft")
        Model('organism:llama3-aft', 12 layers, d_model 96)
    """
    if not isinstance(model, str | Path):
        raise InputError(f"model is a {type(model).__name__}; expected a folder, hub id or name")
    options = options_of(
        model=str(model),
        revision=revision,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
        system=system,
        template=template,
        answer_prefix=answer_prefix,
    )
    source = resolve_model(options.model)
    require_source(source)
    organism = read_organism(Path(source))
    return Model(
        chat=load_chat_model(source, options.load_options()), organism=organism, options=options
    )


def require_model(model: object) -> Model:
    """What `load` returned.

    Raises:
        InputError: something else was given.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"model is a {type(model).__name__}; expected what refusalscope.load returns"
        )
    return model
