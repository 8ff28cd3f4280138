"""Parameters that a model keeps under several names: the unembedding, and in a few models layers.

One option of the config ties them all, so that a checkpoint whose unembedding is on its own must
hold all of them on their own.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from refusalscope.models.anatomy import Anatomy


def tied_names(model: nn.Module) -> dict[str, str]:
    """The further names of shared parameters, each with the first name of its parameter.

    A module that a model has under several names counts once.
    """
    first: dict[nn.Parameter, str] = {}
    further: dict[str, str] = {}
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(prefix, recurse=False):
            if first.setdefault(parameter, leaf) != leaf:
                further[leaf] = first[parameter]
    return further


def untie_unembedding(model: nn.Module, anatomy: Anatomy) -> Callable[[], None]:
    """Give a tied unembedding its own copy of the shared tensor; returns what ties it again."""
    assert anatomy.unembedding is not None, "a tied model has an unembedding"
    head = model.get_submodule(anatomy.unembedding)
    shared = head.weight
    assert isinstance(shared, nn.Parameter)
    configs = _tied_configs(getattr(model, "config", None))

    def tie() -> None:
        head.weight = shared
        for config in configs:
            config.tie_word_embeddings = True

    head.weight = _copy_of(shared)
    for config in configs:
        config.tie_word_embeddings = False
    return tie


def separate(model: nn.Module) -> Callable[[], None]:
    """Give every further name of a shared parameter its own copy; returns what shares them again.

    A model whose config ties nothing is saved and loaded rightly only so.
    """
    names = tied_names(model)

    def share() -> None:
        for name, first in names.items():
            _put(model, name, model.get_parameter(first))

    for name, first in names.items():
        _put(model, name, _copy_of(model.get_parameter(first)))
    return share


def told_apart(model: PreTrainedModel, anatomy: Anatomy) -> tuple[PreTrainedModel, dict[str, str]]:
    """A copy of a model with other numbers under each name of a shared parameter, and the names.

    The names are those of `tied_names`, but that the unembedding is never the first.
    """
    if not tied_names(model):
        return model, {}
    apart = deepcopy(model)
    names: dict[str, str] = {}
    if anatomy.is_tied:
        head = f"{anatomy.unembedding}.weight"
        shared = apart.get_parameter(head)
        untie_unembedding(apart, anatomy)
        names[head] = next(name for name, p in apart.named_parameters() if p is shared)
    names |= tied_names(apart)
    separate(apart)
    with torch.no_grad():
        for number, name in enumerate(names, 2):
            apart.get_parameter(name).mul_(float(number))
    return apart, names


def _put(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, parameter)


def _copy_of(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)


def _tied_configs(config: object) -> list[Any]:
    """The config and the configs inside it that say that the embeddings are tied."""
    inside = [] if config is None else list(vars(config).values())
    nested = [
        found for value in inside if hasattr(value, "to_dict") for found in _tied_configs(value)
    ]
    return [*([config] if getattr(config, "tie_word_embeddings", False) else []), *nested]
