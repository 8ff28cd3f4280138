"""Records of suffixes and heads: what a suffix does to refusal, to the direction and its heads."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Rate

SuffixConditionName = Literal[
    "harmful", "harmful_random_suffix", "harmful_adversarial_suffix", "harmless"
]
Region = Literal["instruction", "suffix", "template", "first", "sink"]
"""`template` without the first token; `sink` is what a head with a learned sink gives no token."""
ComponentKind = Literal["embedding", "head", "attention", "mixer", "mlp", "block", "bias"]


class SearchStep(Record):
    """The state of a suffix search after one step.

    Attributes:
        loss: Mean of -log p(target) over the prompts of the search, in nats.
        n_tried: Suffixes whose loss was computed in this step.
    """

    step: int
    loss: float
    ids: tuple[int, ...]
    n_tried: int


class SuffixSearch(Record):
    """mechanism/suffix_search.json: a searched suffix and how it was found."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    text: str
    ids: tuple[int, ...]
    n_prompts: int
    targets: tuple[str, ...]
    """By prompt the first token of the answer that was sought."""
    n_tokens: int
    candidates: int
    top_k: int
    enough: float
    seed: int
    steps: tuple[SearchStep, ...]


class SuffixFacts(Record):
    """A suffix, and whether its text is read as its tokens after the instructions of a run."""

    source: str
    text: str
    ids: tuple[int, ...]
    n_tokens: int
    n_prompts: int
    n_read_differently: int
    """Prompts in which the text typed after the instruction gives other tokens."""


class SuffixCondition(Record):
    """One of the four conditions of Figure 5.

    Attributes:
        refusal: Of greedy completions, by phrases, on all test instructions.
        cosine_mean: Of the last token's resid_pre with the unit direction, by layer.
        cosine_sd: Population standard deviation over prompts.
        n: Prompts of the cosines; those that the refusal filter kept.
    """

    refusal: Rate
    cosine_mean: tuple[float, ...]
    cosine_sd: tuple[float, ...]
    n: int


class SuffixConditions(Record):
    """mechanism/suffix_conditions.json (Figures 5 and 21)."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    position: int
    layer: int
    suffix: SuffixFacts
    random_read_differently: int
    """Prompts in which the text of their random suffix gives other tokens."""
    harmful: SuffixCondition
    harmful_random_suffix: SuffixCondition
    harmful_adversarial_suffix: SuffixCondition
    harmless: SuffixCondition
    warnings: tuple[str, ...] = ()


class ComponentRow(Record):
    """A component's mean contribution to the projection on the unit direction, by condition."""

    kind: ComponentKind
    layer: int | None
    head: int | None
    contribution: dict[SuffixConditionName, float]


class HeadRow(ComponentRow):
    """One of the top heads (Figure 6).

    Attributes:
        attention: By condition the attention from the last token to each region, summing to one;
            None where the model shows no attention maps.
    """

    attention: dict[SuffixConditionName, dict[Region, float]] | None


class KnockOut(Record):
    """Mean refusal metric on harmful prompts without the contributions of some heads along r."""

    n_heads: int
    n_prompts: int
    baseline: float
    top: float
    random: tuple[float, ...]
    """One draw of as many other heads each."""
    seed: int


class Heads(Record):
    """mechanism/heads.json (Figure 6).

    Attributes:
        heads: The heads with the highest mean contribution on plain harmful prompts, highest
            first; the same heads under every condition.
        components: All components, in the order in which they write.
        projection: Mean projection of resid_pre of each layer, and of the last resid_post, by
            condition; the components up to there add up to it.
        sum_error: Largest difference between the two, relative to the projection's size.
        whole: Attention that is not divided into heads, with the reason.
        attention_refused: Why no attention is shown; None where it is.
        knock_out: None where the model has fewer other heads than top ones.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    n_prompts: dict[SuffixConditionName, int]
    heads: tuple[HeadRow, ...]
    components: tuple[ComponentRow, ...]
    projection: dict[SuffixConditionName, tuple[float, ...]]
    sum_error: float
    whole: dict[str, str]
    attention_refused: str | None
    knock_out: KnockOut | None
