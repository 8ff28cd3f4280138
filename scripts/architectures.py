"""Write docs/architectures.md: the anatomy of every causal language model of transformers.

    python scripts/architectures.py            writes the page
    python scripts/architectures.py --check    exits with status 1 if the page is not what it writes
    python scripts/architectures.py llama opt  prints the rows of single architectures

Of each architecture a small random model is built and measured, and the proof is run on it.
"""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

import torch
import transformers

from refusalscope.errors import AnatomyError
from refusalscope.models.anatomy import Anatomy, measure_anatomy
from refusalscope.models.anatomy_exceptions import reason_for
from refusalscope.models.miniature import build_miniature, causal_lm_classes, miniature_config
from refusalscope.models.miniature_options import NOT_BUILT
from refusalscope.models.residual_writer import ResidualWriter
from refusalscope.weights.proof import prove

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architectures.md"
COMMAND = "python scripts/architectures.py"
PARALLEL = ("codegen", "cohere", "falcon", "falcon_h1", "gpt_neox", "gptj", "phi", "stablelm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found of one architecture."""

    model_type: str
    class_name: str
    verdict: str
    """`holds`, `refused` or `not built`."""
    row: str
    """Its row in the table of its verdict."""
    traits: tuple[str, ...] = ()


def examine(model_type: str, class_name: str) -> Examined:
    """Build a miniature of one architecture, measure it and run the proof."""
    named = f"| {model_type} | {class_name} |"
    if model_type in NOT_BUILT:
        row = f"{named} {NOT_BUILT[model_type]} |"
        return Examined(model_type=model_type, class_name=class_name, verdict="not built", row=row)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build_miniature(miniature_config(model_type))
        try:
            anatomy = measure_anatomy(model)
            proof = prove(model, anatomy)
        except AnatomyError as error:
            row = f"{named} {_reason(str(error))} | {_activations(model)} |"
            return Examined(
                model_type=model_type, class_name=class_name, verdict="refused", row=row
            )
    if not proof.is_proven or proof.leftover >= 1e-6:
        raise AssertionError(f"{model_type} is measured but not proven: {proof}")
    traits = _traits(anatomy, model)
    row = (
        f"{named} {_layers(anatomy)} | {', '.join(traits)} | "
        f"{proof.n_tensors_proven} of {proof.n_tensors} | < 1e-6 |"
    )
    return Examined(
        model_type=model_type, class_name=class_name, verdict="holds", row=row, traits=traits
    )


def page(examined: Sequence[Examined]) -> str:
    """The whole page."""
    holds, refused, not_built = (
        [one for one in examined if one.verdict == verdict]
        for verdict in ("holds", "refused", "not built")
    )
    parts = [
        "# Architectures",
        "",
        f"Written by `{COMMAND}` with transformers {transformers.__version__}; do not edit. "
        f"`{COMMAND} --check` and a test compare it with what the code finds.",
        "",
        f"Of the {len(examined)} causal language models of transformers, {len(holds)} hold, "
        f"{len(refused)} are refused and {len(not_built)} are not built. Of each a small model "
        "with random weights is built from its config; its layers, residual writers and the "
        "tensors that feed them are measured (`models/anatomy.py`), all of these tensors are "
        "orthogonalized against a random direction, and what is left of that direction in the "
        "residual stream, at the input of every layer and the output of the last, is compared "
        "with rounding (`weights/proof.py`).",
        "",
        "## Holds",
        "",
        *_trait_list(holds),
        "",
        "Under *writers*, `module x coefficient <- tensors` for each kind of layer; *e* is the "
        "embedding. `norm(tensor)` means that the tensor is edited before the norm, against the "
        "direction that the norm would turn into r. A `*` stands for any number. *Tensors* are "
        "those proven of those found, *left* the largest |r.x| / |r||x| after the edit.",
        "",
        "| model type | class | writers | traits | tensors | left |",
        "|---|---|---|---|---|---|",
        *(one.row for one in holds),
        "",
        "## Refused",
        "",
        "`refusalscope anatomy` ends with the reason and exit status 2. Where *activations* says "
        "yes, the writers themselves are found, so that interventions on activations work and "
        "only weight edits are refused.",
        "",
        "| model type | class | reason | activations |",
        "|---|---|---|---|",
        *(one.row for one in refused),
        "",
        "## Not built",
        "",
        "| model type | class | reason |",
        "|---|---|---|",
        *(one.row for one in not_built),
        "",
    ]
    return "\n".join(parts)


def _reason(message: str) -> str:
    """Why in words, where known; else what did not add up."""
    model_type = message.partition(":")[0]
    reason = reason_for(model_type) or message.partition(": ")[2]
    return reason.replace("|", "/")


def _activations(model: torch.nn.Module) -> str:
    try:
        measure_anatomy(model, with_feeders=False)
    except AnatomyError:
        return "no"
    return "yes"


def _layers(anatomy: Anatomy) -> str:
    """The writers of the embedding and of each kind of layer."""
    embedding = ", ".join(_writer(w, "") for w in anatomy.embedding)
    kinds: dict[str, list[int]] = {}
    for index, layer in enumerate(anatomy.layers):
        text = ", ".join(_writer(w, f"{layer}.") for w in anatomy.writers_of(index))
        kinds.setdefault(text, []).append(index)
    lines = [f"{', '.join(map(str, layers))}: {text}" for text, layers in kinds.items()]
    return "<br>".join([f"e: {embedding}", *lines])


def _writer(writer: ResidualWriter, prefix: str) -> str:
    """One writer with its coefficient and its tensors, names relative to the layer."""
    tensors = dict.fromkeys(
        _nested(
            [_short(norm.module, prefix) for norm in feeder.norms],
            _short(feeder.parameter, prefix),
        )
        for feeder in writer.feeders
    )
    factor = "" if writer.coefficient == 1.0 else f" x {writer.coefficient:.4g}"
    return f"`{_short(writer.module, prefix)}`{factor} <- {' '.join(f'`{t}`' for t in tensors)}"


def _nested(norms: Iterable[str], tensor: str) -> str:
    for norm in reversed(list(norms)):
        tensor = f"{norm}({tensor})"
    return tensor


def _short(name: str, prefix: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name.removeprefix(prefix))


def _traits(anatomy: Anatomy, model: torch.nn.Module) -> tuple[str, ...]:
    """What makes an architecture more than attention, MLP and two matrices."""
    feeders = anatomy.feeders
    shapes = [model.get_parameter(feeder.parameter).ndim for feeder in feeders]
    norms = [norm for feeder in feeders for norm in feeder.norms]
    sites = {writer.site for writer in anatomy.writers}
    inside = [norm for writer in anatomy.writers for f in writer.feeders for norm in f.norms]
    kinds: dict[str, Callable[[], bool]] = {
        "tied embedding": lambda: anatomy.is_tied,
        "several embeddings": lambda: len(anatomy.embedding) > 1,
        "embedding norm": lambda: any(f.norms for w in anatomy.embedding for f in w.feeders),
        "biases": lambda: 1 in shapes,
        "fused experts": lambda: 3 in shapes,
        "listed experts": lambda: (
            any("experts." in f.parameter for f in feeders) and 3 not in shapes
        ),
        "sandwich norms": lambda: len(inside) > 0,
        "1 + gain": lambda: any(norm.gain and norm.offset for norm in norms),
        "LayerNorm before the stream": lambda: any(norm.is_centered for norm in norms),
        "mixers": lambda: "mixer_out" in sites,
        "mixers beside attention": lambda: {"mixer_out", "attn_out"} <= sites,
        "coefficients": lambda: any(w.coefficient != 1.0 for w in anatomy.writers),
        "scaled stream": lambda: any(carry != 1.0 for carry in anatomy.carries),
    }
    return tuple(name for name, holds in kinds.items() if holds())


def _trait_list(holds: Sequence[Examined]) -> list[str]:
    """Which architectures have which trait."""
    by_trait: dict[str, list[str]] = {
        "parallel attention": [one.model_type for one in holds if one.model_type in PARALLEL]
    }
    for one in holds:
        for trait in one.traits:
            by_trait.setdefault(trait, []).append(one.model_type)
    return [
        f"- {trait} ({len(types)}): {', '.join(types)}" for trait, types in sorted(by_trait.items())
    ]


def main(arguments: Sequence[str]) -> int:
    """Write, check or print."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    classes = causal_lm_classes()
    names = [argument for argument in arguments if not argument.startswith("--")]
    if names:
        print("\n".join(examine(name, classes[name]).row for name in names))
        return 0
    text = page([examine(name, class_name) for name, class_name in classes.items()])
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    old = PAGE.read_text(encoding="utf-8").splitlines()
    changes = list(unified_diff(old, text.splitlines(), "docs/architectures.md", "now", n=0))
    print("\n".join(changes))
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
