"""What tells a run's harmful instructions from its harmless ones, without any model."""

import logging

from refusalscope.metrics.auroc import auroc, auroc_interval
from refusalscope.metrics.contrast import n_words, word_scores
from refusalscope.pipeline.instructions import InstructionSets
from refusalscope.results.contrast_records import Contrast, Separation

_LOG = logging.getLogger(__name__)


def contrast_of(sets: InstructionSets) -> Contrast | None:
    """Words counted in the training instructions, scored on those of validation and test.

    None, with a line in the log, where there is too little to count or to score.
    """
    texts = {name: [one.text for one in each.instructions] for name, each in sets.items()}
    held_out = [[*texts[f"{kind}_val"], *texts[kind]] for kind in ("harmful", "harmless")]
    try:
        words = [
            word_scores(own, harmful=texts["harmful_train"], harmless=texts["harmless_train"])
            for own in held_out
        ]
        return Contrast(
            words=_separation(words),
            length=_separation([[float(n_words(text)) for text in own] for own in held_out]),
            n_harmful=len(held_out[0]),
            n_harmless=len(held_out[1]),
        )
    except ValueError as error:
        _LOG.warning("how well words tell the instructions apart was not measured: %s", error)
        return None


def _separation(scores: list[list[float]]) -> Separation:
    low, high = auroc_interval(*scores)
    return Separation(area=auroc(*scores), low=low, high=high)
