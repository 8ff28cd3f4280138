"""How a bundled organism is named where a model is asked for, and which one where none is."""

ORGANISM_PREFIX = "organism:"
DEFAULT_ORGANISM = "llama3-aft"
