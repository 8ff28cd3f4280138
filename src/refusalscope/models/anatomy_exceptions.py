"""Architectures whose residual stream is not a plain sum: why, in words.

The measurement says what does not add up; this table says why where we have looked. It decides
nothing: an architecture that starts to add up is accepted in spite of it.
"""

from torch import nn

_POST_NORM = "the norm comes after the sum, so there is no stream that only grows"
_SINUSOIDS = "fixed sinusoidal positions are added to the embedding; no stored tensor holds them"
_STREAMS = "it has several residual streams, mixed by learned weights"
_LOOPED = "its layers run several times in one forward pass"
_CONVOLUTION = "a short convolution after each block scales every channel by itself"
_REASONS = {
    "bart": _POST_NORM,
    "bert": _POST_NORM,
    "bert-generation": _POST_NORM,
    "big_bird": _POST_NORM,
    "blenderbot-small": _POST_NORM,
    "camembert": _POST_NORM,
    "ctrl": _SINUSOIDS,
    "data2vec-text": _POST_NORM,
    "deepseek_v4": _STREAMS,
    "doge": "it multiplies the stream channel by channel with learned weights",
    "dory": _LOOPED,
    "electra": _POST_NORM,
    "ernie": _POST_NORM,
    "gemma3n_text": _STREAMS,
    "git": _POST_NORM,
    "gpt_neox_japanese": "its last layer adds a bias to the stream outside of any module",
    "hrm_text": _LOOPED,
    "hy_v4": _STREAMS,
    "inkling_text": _CONVOLUTION,
    "inkling2_text": _CONVOLUTION,
    "inkling2_loop_text": _CONVOLUTION,
    "longcat_flash": "its zero experts hand the normed stream itself back to the stream",
    "marian": _POST_NORM,
    "minimax": "the residual is taken after the norm",
    "mllama_text_model": "its cross-attention layers run only with an image",
    "mvp": _POST_NORM,
    "openai-gpt": _POST_NORM,
    "pegasus": _SINUSOIDS,
    "plbart": _POST_NORM,
    "prophetnet": _POST_NORM,
    "qwen4_exp_text": _STREAMS,
    "reformer": "its layers are reversible: two streams that take turns",
    "rembert": _POST_NORM,
    "roberta": _POST_NORM,
    "roc_bert": _POST_NORM,
    "roformer": _POST_NORM,
    "rwkv": "its first layer starts the stream from a norm of what it is given",
    "trocr": _POST_NORM,
    "xglm": _SINUSOIDS,
    "xlm": _POST_NORM,
    "xlm-roberta": _POST_NORM,
    "xlnet": _POST_NORM,
    "xmod": _POST_NORM,
    "zaya": "it multiplies the stream channel by channel with learned weights",
}


def reason_for(model_type: str) -> str | None:
    """Why an architecture is refused, where known."""
    return _REASONS.get(model_type)


def explained(message: str, model: nn.Module) -> str:
    """`message`, with the name of the architecture and, where known, why it is refused."""
    model_type = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    reason = reason_for(model_type)
    return f"{model_type}: {message}" + (f" ({reason})" if reason else "")
