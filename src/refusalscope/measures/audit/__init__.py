"""The audit of a model: a run, the measures that say how brittle its refusal is, and one page."""
