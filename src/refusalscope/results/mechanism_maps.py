"""Records of first tokens, curves by layer, maps of where a direction acts, and geometry."""

from typing import Literal

from pydantic import Field

from refusalscope.results.record import Record
from refusalscope.results.records import Rate


class LayerCurve(Record):
    """Mean and population standard deviation over prompts, by layer."""

    mean: tuple[float, ...]
    sd: tuple[float, ...]


class TokenProbability(Record):
    """Mean probability of one token as the first of the answer."""

    id: int
    text: str
    probability: float


class TokenStudy(Record):
    """mechanism/tokens.json: what the refusal metric rests on (Figures 9 and 10).

    Attributes:
        harmful: The ten likeliest first tokens after harmful prompts, likeliest first.
        harmful_metric: Refusal metric of each harmful prompt.
        proposed: Refusal tokens proposed from the mean probabilities; empty where none separates.
        error: Share of test completions for which the proposed tokens say refusal and the phrases
            do not, or the other way round; None without proposed tokens.
        error_in_use: The same for the tokens that the run used.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    n_harmful: int
    n_harmless: int
    harmful: tuple[TokenProbability, ...]
    harmless: tuple[TokenProbability, ...]
    harmful_metric: tuple[float, ...]
    harmless_metric: tuple[float, ...]
    proposed: tuple[TokenProbability, ...]
    error: Rate | None
    error_in_use: Rate


class Trajectories(Record):
    """mechanism/trajectories.json (Figure 22): cosine by layer under interventions.

    Attributes:
        curves: `harmful` and `harmless` to baseline, subtraction and ablation.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    n_prompts: dict[str, int]
    curves: dict[str, dict[str, LayerCurve]]


class BaseAndChat(Record):
    """mechanism/base_and_chat.json (Figure 24): the newline token in a base and a chat model.

    Attributes:
        base: Folder or hub id.
        curves: `harmful` and `harmless` to `chat` and `base`: cosine with the chat model's r.
        difference_cosine: By layer, cosine between the base model's difference in means at that
            token and the chat model's; None where one of them is zero.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    base: str
    base_weights_sha256: str
    n_prompts: dict[str, int]
    curves: dict[str, dict[str, LayerCurve]]
    difference_cosine: tuple[float | None, ...]


class AdditionMap(Record):
    """Mean refusal metric after adding coefficient x r at each layer."""

    coefficients: tuple[float, ...]
    harmless: tuple[tuple[float, ...], ...]
    """Coefficient x layer: induce."""
    harmful: tuple[tuple[float, ...], ...]
    """Coefficient x layer, the coefficients negated: bypass by subtraction."""


class WhereItActs(Record):
    """mechanism/where_it_acts.json: mean refusal metric under parts of the intervention.

    Attributes:
        everywhere: Harmful prompts, the whole ablation: bypass.
        one_layer: Harmful prompts, the direction removed from resid_pre of one layer.
        from_layer: The same, removed there and from all that is written from that layer on.
        one_position: Removed at one post-instruction position only, at all layers; by position.
        instruction: Removed at all tokens before the post-instruction ones only.
        sites: Removed from the output of one kind of writer only (attn_out, mlp_out, ...).
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    n_harmful: int
    n_harmless: int
    baseline_harmful: float
    baseline_harmless: float
    everywhere: float
    one_layer: tuple[float, ...]
    from_layer: tuple[float, ...]
    one_position: dict[int, float]
    instruction: float
    sites: dict[str, float]
    addition: AdditionMap


class ProjectedText(Record):
    """The projection of every token of a prompt on the unit direction, by layer.

    Attributes:
        is_harmful: Whether it is of a set of harmful instructions; None for a text that was given,
            of which that is not known.
    """

    label: str
    is_harmful: bool | None
    tokens: tuple[str, ...]
    projection: tuple[tuple[float, ...], ...]
    """Token x layer."""


class TokenProjections(Record):
    """mechanism/token_projections.json: the token view."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    texts: tuple[ProjectedText, ...]


class LayerComponents(Record):
    """Principal components of the last token's resid_pre of harmful and harmless prompts together.

    Attributes:
        explained: Share of the variance of each component, largest first.
        along_direction: Share of the variance along the chosen direction.
        harmful: First two coordinates of each harmful prompt.
    """

    layer: int
    explained: tuple[float, ...]
    along_direction: float
    harmful: tuple[tuple[float, float], ...]
    harmless: tuple[tuple[float, float], ...]


class Geometry(Record):
    """mechanism/geometry.json.

    Attributes:
        with_chosen: Position x layer: cosine of each candidate with the chosen direction; None
            where the candidate is zero.
        between_layers: Layer x layer: cosines of candidates at the chosen position.
        between_positions: Position x position: cosines of candidates at the chosen layer.
        categories: Harm categories that have enough prompts, with how many.
        between_categories: Cosines of the differences in means of single categories.
        category_with_chosen: Cosine of each of them with the chosen direction.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    positions: tuple[int, ...]
    with_chosen: tuple[tuple[float | None, ...], ...]
    between_layers: tuple[tuple[float | None, ...], ...]
    between_positions: tuple[tuple[float | None, ...], ...]
    categories: dict[str, int]
    between_categories: tuple[tuple[float | None, ...], ...]
    category_with_chosen: tuple[float | None, ...]
    components: tuple[LayerComponents, ...]


class OtherRun(Record):
    """Candidates of another run, whose model has the same width.

    Attributes:
        directions: Cosine of the two chosen directions.
        between_layers: Layer of this run x layer of the other: cosines of the candidates, each at
            the position of its own run's direction; None where one is zero.
    """

    run: str
    model: str
    weights_sha256: str | None
    position: int
    layer: int
    directions: float | None
    between_layers: tuple[tuple[float | None, ...], ...]


class BetweenModels(Record):
    """mechanism/between_models.json: this run's candidates beside those of other runs."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    position: int
    layer: int
    others: tuple[OtherRun, ...]
