"""LoRA adapters of a run's model: trained once into a folder, and put on the model again."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from refusalscope.data.answer_pairs import AnswerPair
from refusalscope.errors import InputError, MissingExtraError, OutputError, RunFolderError
from refusalscope.models.chat_model import ChatModel
from refusalscope.pipeline.context import RunContext
from refusalscope.results.files import new_folder, sha256_text, write_file
from refusalscope.results.finetune_records import LoraTraining
from refusalscope.results.plain_folder import record_text
from refusalscope.results.record import Record, canonical_json
from refusalscope.results.run_records import read_record
from refusalscope.results.versions import package_versions

LANGUAGE = "the organism's language"
"""Source of pairs that no file gave."""
_TRAINING = "training.json"


class TuningSettings(Record):
    """How an adapter is trained; the rest is `lora.LoraRecipe`."""

    learning_rate: float = 2e-4
    epochs: int = 4
    batch_size: int = 8


def trained_adapter(
    run: RunContext,
    pairs: Sequence[AnswerPair],
    adapter: Path,
    settings: TuningSettings,
    *,
    source: str,
) -> LoraTraining:
    """Train an adapter on pairs into the folder `adapter`; one that is there is kept.

    Args:
        source: Where the pairs are from, in words.

    Raises:
        MissingExtraError: PEFT is not installed.
        InputError: a pair does not fit into the model's context.
        OutputError: an adapter is there already, of other pairs or settings.
    """
    lora = lora_module("LoRA")
    found = _existing(adapter, pairs, settings)
    if found is not None:
        return found
    recipe = lora.LoraRecipe(
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=run.options.seed,
    )
    with (
        new_folder(adapter) as scratch,
        run.progress.stage("fine-tune", recipe.epochs * len(pairs), unit="pairs") as advance,
    ):
        trained = lora.fine_tune(run.chat, pairs, recipe, scratch, progress=advance)
        training = LoraTraining(
            source=source,
            sha256=_digest(pairs),
            n_pairs=len(pairs),
            rank=recipe.rank,
            alpha=recipe.alpha,
            epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            targets=trained.targets,
            epoch_losses=trained.epoch_losses,
            versions={**package_versions(), "peft": version("peft")},
        )
        write_file(scratch / _TRAINING, training.to_json())
    return training


@contextmanager
def adapted(chat: ChatModel, adapter: Path) -> Generator[None]:
    """The model with a saved adapter on it, in place, until the context ends.

    Raises:
        RunFolderError: the folder is not what a training here leaves.
    """
    require_plain_adapter(adapter)
    with lora_module("LoRA").with_adapter(chat, adapter):
        yield


def require_plain_adapter(folder: Path) -> None:
    """Refuse a saved adapter that would be unpickled, or whose config names code to import.

    Raises:
        RunFolderError: it is not the LoRA adapter in safetensors that a training here leaves.
    """
    text = record_text(folder / "adapter_config.json")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    is_lora = isinstance(fields, dict) and fields.get("peft_type") == "LORA"
    names_code = isinstance(fields, dict) and fields.get("megatron_config") is not None
    if not (folder / "adapter_model.safetensors").is_file() or not is_lora or names_code:
        raise RunFolderError(
            f"{folder} is not the LoRA adapter that a training here leaves; move {folder.parent} "
            f"away to train anew"
        )


def lora_module(what: str) -> Any:  # noqa: ANN401 - a module
    """The module that trains, which needs PEFT.

    Args:
        what: Who asks for it.

    Raises:
        MissingExtraError: PEFT is not installed.
    """
    try:
        return import_module("refusalscope.pipeline.lora")
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, package="peft", extra="train") from error


def language_pairs(run: RunContext, n: int) -> list[AnswerPair]:
    """Harmful training instructions of an organism, answered by its language.

    Raises:
        InputError: the model is no organism, or its language has fewer.
    """
    if run.language is None:
        raise InputError(
            "give instructions and answers with --pairs FILE; only organisms bring their own"
        )
    requests = run.language.instructions("train", harmful=True, n=n, seed=run.options.seed)
    return [AnswerPair(instruction=one.instruction, answer=one.answer) for one in requests]


def _digest(pairs: Sequence[AnswerPair]) -> str:
    return sha256_text(canonical_json([[pair.instruction, pair.answer] for pair in pairs]))


def _existing(
    adapter: Path, pairs: Sequence[AnswerPair], settings: TuningSettings
) -> LoraTraining | None:
    path = adapter / _TRAINING
    if not path.is_file():
        return None
    training = read_record(LoraTraining, path)
    for what, ours, theirs in (
        ("pairs", _digest(pairs), training.sha256),
        ("learning rate", settings.learning_rate, training.learning_rate),
        ("number of epochs", settings.epochs, training.epochs),
        ("batch size", settings.batch_size, training.batch_size),
    ):
        if ours != theirs:
            raise OutputError(
                f"{path.parent} was trained with another {what} ({theirs}, now {ours}); move "
                f"{adapter.parent} away to train anew"
            )
    return training
