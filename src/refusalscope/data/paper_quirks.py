"""What is odd about the runs that the paper's code wrote, as far as it bears on one of them.

Read in https://github.com/andyrdt/refusal_direction and found in the runs it holds.
"""

import math

from refusalscope.data.paper_run import PaperRun

SHORT = 15
"""Completions of fewer words are safe by a rule of the code."""
_LLAMA_3_TURN = "assistant\n"


def quirks_of(run: PaperRun) -> tuple[str, ...]:
    """One sentence a quirk; those that the run's name, scores or completions call for."""
    found = (
        _llama_3_template(run),
        _end_of_turn(run),
        _llama_2_position(run),
        _layer_rule(run),
        _zero_candidates(run),
        _tied_embedding(run),
        _short_answers(run),
        "its losses and completions are of hooks; the code never ran its weight edits"
        if run.completions or run.losses
        else None,
        "its scores use the code's formulas: the refusal metric stops at about 18.4, KL is not "
        "exact; how many prompts the filter kept is not stored"
        if run.scores
        else None,
    )
    return tuple(sentence for sentence in found if sentence is not None)


def _is(run: PaperRun, family: str) -> bool:
    return family in run.name.lower()


def _llama_3_template(run: PaperRun) -> str | None:
    if not _is(run, "llama-3"):
        return None
    return (
        "runs of Llama-3 from before August 2024, the published one among them, have a stray quote "
        "and a second begin-of-text token before every prompt"
    )


def _end_of_turn(run: PaperRun) -> str | None:
    texts = [row.completion for one in run.completions or () for row in one.rows if row.completion]
    if not texts:
        return None
    sentence = "completions run on past the end of turn to 512 tokens"
    if _is(run, "llama-3"):
        n = sum(_LLAMA_3_TURN in text for text in texts)
        sentence += f"; {n} of the {len(texts)} in this copy hold another turn"
    return sentence + "; so do the texts of the loss on own completions"


def _llama_2_position(run: PaperRun) -> str | None:
    if not (_is(run, "llama-2") and run.scores and any(row.position == -6 for row in run.scores)):
        return None
    return "position -6 of Llama-2 is the last token of the instruction, not of the template"


def _layer_rule(run: PaperRun) -> str | None:
    n = run.n_layers
    if n is None or int(n * (1 - 0.2)) >= math.ceil(0.8 * n):
        return None
    return (
        f"for {n} layers the code's rule leaves out layer {int(n * (1 - 0.2))}, which the paper's "
        f"allows"
    )


def _zero_candidates(run: PaperRun) -> str | None:
    rows = run.scores or ()
    n_zero = sum(row.layer == 0 and row.kl == 0 for row in rows)
    n_nan = sum(row.bypass is None or row.induce is None or row.kl is None for row in rows)
    parts = []
    if n_zero:
        parts.append(f"{n_zero} candidates at layer 0 are zero; their scores are the baseline's")
    if n_nan:
        parts.append(f"{n_nan} candidates have a score that is not a number")
    return "; ".join(parts) or None


def _tied_embedding(run: PaperRun) -> str | None:
    if not _is(run, "gemma"):
        return None
    return "Gemma's unembedding is tied: weights edited by the code do not equal its hooks"


def _short_answers(run: PaperRun) -> str | None:
    judged = any(row.is_safe is not None for one in run.completions or () for row in one.rows)
    return (
        f"answers of fewer than {SHORT} words count as safe without being judged"
        if judged
        else None
    )
