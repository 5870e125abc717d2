"""The two ways in which a run can end that are not defects of the program."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message names the file, line, column or key and what was expected.

    The command line prints the message and ends with exit status 2; nothing was written over.
    """


class TrainingDiverged(RuntimeError):
    """The training loss became NaN or infinite. The last good checkpoint is kept."""
