"""The error of everything a person can mend: a wrong option, folder or checkpoint, or a run that diverged."""


class TrainingError(ValueError):
    """One sentence that names what was found and what to do; printed without a traceback."""
