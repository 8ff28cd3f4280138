"""Tasks of lm-evaluation-harness on a loaded model; no other module imports the harness.

https://github.com/EleutherAI/lm-evaluation-harness, in the extra `eval`. Departure: what a document
spells of control tokens is text, as everywhere here; the harness makes control tokens of it.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from lm_eval.evaluator import simple_evaluate  # pyright: ignore[reportMissingImports] # extra `eval`
from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports] # extra `eval`
from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports] # extra `eval`
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from refusalscope.errors import InputError
from refusalscope.measures.coherence.task import HarnessTask
from refusalscope.models.chat_parts import chat_parts
from refusalscope.models.marked_text import FrameMarks
from refusalscope.models.text_tokens import Frame, joined, token_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessOptions:
    """How the harness runs.

    Attributes:
        folders: With task files (YAML) of one's own.
        limit: Documents of each task; None for all.
        chat_template: Whether questions are put into the model's chat template; the paper's are
            not.
    """

    folders: tuple[Path, ...] = ()
    limit: int | None = None
    chat_template: bool = False
    batch_size: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The score of every document of one task.

    Attributes:
        documents: Their names: subtask and number.
        own_value: What the harness reports for the task; its aggregation need not be the mean.
    """

    metric: str
    filter: str
    documents: tuple[str, ...]
    values: tuple[float, ...]
    own_value: float | None


_HarnessModel: Any = HFLM  # what it is made of is hidden from type checkers


class TextModel(_HarnessModel):
    """A model of the harness to which control tokens are those of the chat template alone.

    The harness hands strings from its template to its tokenizer; what the template wrote is marked
    in them.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the harness's own
        self._marks = FrameMarks()
        super().__init__(**options)

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **_kwargs: object,
    ) -> list[int]:
        """The tokens of a text, the last `left_truncate_len` of them where that is given."""
        adds = self.add_bos_token if add_special_tokens is None else add_special_tokens
        parts = self._marks.parts(string)
        if add_special_tokens is None and parts and isinstance(parts[0], Frame):
            begin = self.tokenizer.decode(self.prefix_token_id)
            adds = False if joined(parts).startswith(begin) else adds
        ids = token_ids(self.tokenizer, parts, adds_special_tokens=adds is not False)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
        """The tokens of texts side by side, and which of them are no padding."""
        longest = self.tokenizer.model_max_length if truncation else None
        rows = [self.tok_encode(one, None, left_truncate_len)[:longest] for one in strings]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(rows):
            start = width - len(own) if padding_side == "left" else 0
            ids[row, start : start + len(own)] = torch.tensor(own)
            mask[row, start : start + len(own)] = 1
        return ids, mask

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Messages through the chat template, with marks around what it writes."""
        whole = super().apply_chat_template
        return self._marks.marked(
            chat_parts(
                self.tokenizer,
                chat_history,
                lambda given: whole([dict(one) for one in given], add_generation_prompt),
            )
        )


def require_task(task: HarnessTask, folders: tuple[Path, ...]) -> None:
    """Refuse a task that neither the harness nor one of the folders has.

    Raises:
        InputError: it is not there, or one of the folders is none.
    """
    _manager(task, folders)


def run_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: HarnessTask,
    options: HarnessOptions,
    *,
    under: AbstractContextManager[None],
) -> TaskResult:
    """Run one task while the context `under` is open, which intervenes on the model.

    Raises:
        InputError: no such task, it has not that metric or filter, or its data or a package that
            it needs is not to be had.
    """
    manager = _manager(task, options.folders)
    harnessed = TextModel(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=options.batch_size,
        device=str(model.device),
    )
    with under, _data_of(task):
        found: Any = simple_evaluate(
            model=harnessed,
            tasks=[task.name],
            num_fewshot=task.shots,
            task_manager=manager,
            apply_chat_template=options.chat_template,
            limit=options.limit,
            log_samples=True,
            bootstrap_iters=0,
        )
    return _result(task, found)


@contextmanager
def _data_of(task: HarnessTask) -> Generator[None]:
    """What `datasets` says of data that it does not get, and Python of a package, as one line."""
    try:
        yield
    except (ConnectionError, FileNotFoundError) as error:
        raise InputError(
            f"the data of task {task.name} is not to be had ({_first_line(error)}); check the "
            f"network, or give the task from a folder of your own"
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"task {task.name} needs the package {error.name}, which is not installed; install it"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _manager(task: HarnessTask, folders: tuple[Path, ...]) -> TaskManager:
    """The tasks of the folders where `task` is one of them, else those of the harness."""
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(f"{missing[0]} is no folder; give one with task files")
    if folders:
        own = TaskManager(include_path=list(map(str, folders)), include_defaults=False)
        if task.name in own.all_tasks:
            return own
    harness = _own_tasks()
    if task.name not in harness.all_tasks:
        raise InputError(
            f"there is no task {task.name!r} in the harness or in the folders given; give the name "
            f"of one"
        )
    return harness


@cache
def _own_tasks() -> TaskManager:
    """The harness's own tasks: thousands of files, read once a process."""
    return TaskManager()


def _result(task: HarnessTask, found: dict[str, Any]) -> TaskResult:
    rows = [
        (f"{name}/{sample['doc_id']}", sample)
        for name, samples in sorted(found["samples"].items())
        for sample in samples
    ]
    chosen_filter = task.filter or rows[0][1]["filter"]
    metric = task.metric or rows[0][1]["metrics"][0]
    own = [(name, sample) for name, sample in rows if sample["filter"] == chosen_filter]
    if not own or any(not isinstance(sample.get(metric), int | float) for _, sample in own):
        filters = ", ".join(dict.fromkeys(sample["filter"] for _, sample in rows))
        raise InputError(
            f"task {task.name} has no number {metric!r} with filter {chosen_filter!r} for each "
            f"document; it has {', '.join(rows[0][1]['metrics'])} with {filters}"
        )
    value = found["results"].get(task.name, {}).get(f"{metric},{chosen_filter}")
    return TaskResult(
        metric=metric,
        filter=chosen_filter,
        documents=tuple(name for name, _ in own),
        values=tuple(float(sample[metric]) for _, sample in own),
        own_value=float(value) if isinstance(value, int | float) else None,
    )
