"""What the direction of a run stands for."""

from jaxtyping import Float
from torch import Tensor

from refusalscope.activations.difference_in_means import difference_in_means
from refusalscope.activations.instruction_tokens import at_instruction_end, read_instructions_at
from refusalscope.directions.direction import cosine_of
from refusalscope.measures.meaning.concepts import concepts_of
from refusalscope.measures.meaning.features import features_of
from refusalscope.measures.meaning.inversion import inversion_of
from refusalscope.measures.meaning.record import Meaning, MeaningOptions, Moving
from refusalscope.measures.meaning.vocabulary import (
    through_final_norm,
    through_unembedding,
    words_along,
)
from refusalscope.pipeline.candidates import TRAIN_SETS
from refusalscope.pipeline.context import RunContext
from refusalscope.pipeline.session import Session
from refusalscope.pipeline.stages import chosen_direction
from refusalscope.pipeline.training import kept_training


def measure(session: Session, options: MeaningOptions, _item: str = "") -> Meaning:
    """Read the direction in tokens, concepts and features; move refusal and harmfulness apart.

    Raises:
        RunFolderError: no run, or one without a direction.
        InputError: the dictionary is none of this model's, or the question has no place for an
            instruction.
        InstructionsError: the file of labelled instructions is not one.
        NumericalError: an activation or a logit is NaN or infinite.
    """
    run = session.run
    vector, (position, layer) = chosen_direction(run)
    features = features_of(vector, options)
    concepts = concepts_of(run, vector, (position, layer), options)
    harmful, harmless = (run.prompts(name)[: options.n_prompts] for name in ("harmful", "harmless"))
    seen = through_unembedding(run.chat, vector, n=options.n_tokens)
    measured = through_final_norm(
        run.chat, vector, harmless, n=options.n_tokens, batch_size=run.options.batch_size
    )
    words = words_along(
        run.chat, vector, layer=layer, harmful=harmful, harmless=harmless, n=options.n_tokens
    )
    harm = _harmfulness(run, layer)
    directions: dict[Moving, Float[Tensor, " d_model"]] = {"refusal": vector}
    if harm is not None:
        directions["harmfulness"] = harm
    inversion, moved = inversion_of(run, directions, layer=layer, options=options)
    return Meaning(
        position=position,
        layer=layer,
        vocabulary=(measured,) if seen is None else (seen, measured),
        words=words,
        concepts=concepts,
        harmfulness_cosine=None if harm is None else cosine_of(vector, harm),
        inversion=inversion,
        moved=moved,
        features=features,
    )


def _harmfulness(run: RunContext, layer: int) -> Float[Tensor, " d_model"] | None:
    """Kept training prompts' difference in means at the last token of the instruction.

    None where both kinds are alike there: before layer 0 of instructions that end alike.
    """
    kept = kept_training(run)
    means = []
    for name in TRAIN_SETS:
        read = read_instructions_at(
            run.chat,
            [prompt for prompt, own in zip(run.prompts(name), kept[name], strict=True) if own],
            site="resid",
            layers=[layer],
            take=at_instruction_end,
            batch_size=run.options.batch_size,
        )
        means.append(read[:, 0].double().mean(0))
    found = difference_in_means(harmful=means[0], harmless=means[1])
    return found.float() if bool(found.any()) else None
