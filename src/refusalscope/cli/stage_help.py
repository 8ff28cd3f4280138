"""What each command that continues a run says of itself."""

STAGE_HELP = {
    "label": "Continue a run up to the labels of its training and validation prompts.",
    "extract": "Continue a run up to the candidate directions.",
    "select": "Continue a run up to the chosen direction.",
    "complete": "Continue a run up to the completions.",
    "judge": "Continue a run up to the judgements.",
    "outcomes": "Continue a run up to the signs of answers that are no text.",
    "loss": "Continue a run up to the losses.",
    "project": "Continue a run up to the projections of its answers on the direction.",
}
