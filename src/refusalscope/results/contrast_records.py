"""How well words alone, and length alone, tell the two sets of instructions of a run apart."""

from refusalscope.results.record import Record


class Separation(Record):
    """The area under the ROC curve of a score, harmful against harmless, and its 95 % interval."""

    area: float
    low: float
    high: float


class Contrast(Record):
    """What tells the sets apart without a model, on instructions that no direction was made of.

    Attributes:
        words: By naive Bayes on bags of words, counted in the training instructions.
        length: By the number of words; above 0.5 harmful ones are longer.
        n_harmful: Validation and test instructions that were scored.
    """

    words: Separation
    length: Separation
    n_harmful: int
    n_harmless: int
