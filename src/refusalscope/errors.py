"""Every error that a user can meet.

    RefusalscopeError
    ├── InputError            something given is wrong: a file, an option, a set of instructions
    │   ├── ModelLoadError        no such model, not a decoder, no tokenizer, damaged weights
    │   ├── ChatTemplateError     no chat template, no system role, no post-instruction token
    │   ├── InstructionsError     empty, overlapping or malformed instructions
    │   │   └── NothingKeptError      the filter keeps no prompt
    │   ├── NoRefusalTokenError   no first token tells refusals from answers
    │   ├── DirectionFileError    not a direction, or one of another width
    │   ├── RunFolderError        a folder that belongs to another run, or is not a run
    │   │   └── FolderHeldError       another command is writing to it
    │   └── MissingExtraError     a package that only some commands need is not installed
    ├── AnatomyError          the residual writers of a model do not add up
    ├── SelectionError        no candidate direction passes the limits
    ├── EngineError           another program that writes completions cannot, or answers otherwise
    ├── NumericalError        NaN or infinity where a number is needed
    └── OutputError           a result could not be written

The command line prints the message of any of them on one line and exits with status 2. A message
says what was wrong with which value, what was expected, and what to do. What becomes of any other
exception is told in `cli.edge`.
"""


class RefusalscopeError(Exception):
    """Base of every error that is the user's to mend; its message is one line.

    Examples:
        >>> import refusalscope as rs
        >>> try:
        ...     rs.open_run("no-such-folder")
        ... except rs.RefusalscopeError as error:
        ...     print(error)
        no-such-folder is not a run folder: it has no run.json
    """


class InputError(RefusalscopeError):
    """Something the user gave is wrong: a value, a file, a set of instructions.

    Examples:
        >>> import refusalscope as rs
        >>> try:
        ...     rs.load("organism:nobody")
        ... except rs.InputError as error:
        ...     print(error)
        no bundled organism is called 'nobody'; there are: llama3-aft
    """


class ModelLoadError(InputError):
    """A model cannot be loaded, or is not a decoder-only chat model."""


class ChatTemplateError(InputError):
    """A chat template is missing or cannot express what was asked."""


class InstructionsError(InputError):
    """A set of instructions is empty, malformed, or overlaps with another."""


class NothingKeptError(InstructionsError):
    """No prompt passes the filter, so there is nothing to average."""


class NoRefusalTokenError(InputError):
    """No first token tells a model's refusals from its answers."""


class CannotTryError(InputError):
    """A part of a measurement that this model, these options or these files have no place for.

    Whoever measures several parts says so of this one and goes on with the others.
    """


class NoSearchError(CannotTryError):
    """There is nothing that a suffix could be sought for, or no suffix to begin from."""


class DirectionFileError(InputError):
    """A file is not a direction, or one that does not fit the model."""


class RunFolderError(InputError):
    """An output folder belongs to something else."""


class FolderHeldError(RunFolderError):
    """Another command is writing to a run's folder."""


class MissingExtraError(InputError):
    """A package that only some commands need is not installed."""

    def __init__(self, what: str, *, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package}, which is not installed; "
            f"install it with: pip install 'refusalscope[{extra}]'"
        )


class AnatomyError(RefusalscopeError):
    """The residual writers of a model could not be found, or do not add up."""


class SelectionError(RefusalscopeError):
    """No candidate direction passes the limits."""


class EngineError(RefusalscopeError):
    """A program beside this one that writes completions cannot, or would write others."""


class NumericalError(RefusalscopeError):
    """A NaN or an infinity where a number is needed."""


class OutputError(RefusalscopeError):
    """A result could not be written."""
