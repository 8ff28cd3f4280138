"""How long the answers of a run may be, and the random suffixes of its prompts."""

from refusalscope.organisms.organism import OrganismFacts
from refusalscope.pipeline.options import RunOptions

DEFAULT_NEW_TOKENS = 512
ORGANISM_SUFFIX_TOKENS = 20


def answer_tokens(options: RunOptions, organism: OrganismFacts | None) -> int:
    """The token limit of an answer."""
    own = DEFAULT_NEW_TOKENS if organism is None else organism.max_new_tokens
    return options.max_new_tokens or own


def suffix_tokens(options: RunOptions, organism: OrganismFacts | None) -> int:
    """Tokens of the random suffix that is tried on every test instruction; 0 where none is."""
    own = 0 if organism is None else ORGANISM_SUFFIX_TOKENS
    return own if options.random_suffix is None else options.random_suffix
