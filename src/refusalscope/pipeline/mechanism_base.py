"""The part of the mechanism that needs a second model: base against chat."""

from refusalscope.mechanism.base_and_chat import (
    NewlineStates,
    as_base,
    difference_cosines,
    newline_prompts,
    newline_states,
)
from refusalscope.mechanism.cosines import curve
from refusalscope.models.chat_model import (
    ChatModel,
    load_model,
    local_folder,
    read_config,
    weights_digest,
)
from refusalscope.models.load_options import LoadOptions
from refusalscope.pipeline.mechanism_study import Study
from refusalscope.results.files import write_file
from refusalscope.results.mechanism_folder import BASE_AND_CHAT
from refusalscope.results.mechanism_maps import BaseAndChat

SETS = ("harmful", "harmless")


def base_digest(source: str) -> str:
    """What identifies a base model's weights."""
    return weights_digest(local_folder(source, None))


def require_base(source: str, *, trust_remote_code: bool) -> None:
    """Refuse, before the long parts, a base model that is none.

    Raises:
        ModelLoadError: there is no such model, or its config is not of a language model.
    """
    options = LoadOptions(trust_remote_code=trust_remote_code)
    read_config(local_folder(source, None), source, options)


def do_base(study: Study) -> None:
    """Cosine of base and chat model with the chat model's direction, at a newline (Figure 24)."""
    run, source = study.run, study.base
    if source is None:
        raise ValueError("the base part was asked for without a base model")
    model = load_model(source, run.other_model_options(trust_remote_code=study.trusts_base))
    base = as_base(run.chat, model, source=source)
    states: dict[tuple[str, str], NewlineStates] = {}
    total = 2 * sum(len(study.instructions(name)) for name in SETS)
    with run.progress.stage("base", total, unit="prompts") as advance:
        for name in SETS:
            for kind, chat in (("chat", run.chat), ("base", base)):
                states[name, kind] = _states(study, chat, name, is_chat=kind == "chat")
                advance(len(study.instructions(name)))
    pairs = [(states["harmful", kind], states["harmless", kind]) for kind in ("chat", "base")]
    record = BaseAndChat(
        base=source,
        base_weights_sha256=base_digest(source),
        n_prompts={name: len(study.instructions(name)) for name in SETS},
        curves={
            name: {kind: curve(states[name, kind].cosines) for kind in ("chat", "base")}
            for name in SETS
        },
        difference_cosine=difference_cosines(*pairs),
    )
    write_file(run.folder.path / BASE_AND_CHAT, record.to_json())


def _states(study: Study, chat: ChatModel, name: str, *, is_chat: bool) -> NewlineStates:
    return newline_states(
        chat,
        newline_prompts(chat, study.instructions(name), is_chat=is_chat),
        study.direction.vector,
        batch_size=study.run.options.batch_size,
    )
