"""Errors of the user's making, as one line."""

from hydra.errors import InstantiationException


def cause_of(error: BaseException) -> BaseException:
    """Return the error that made Hydra's building of an object fail; any other as it is."""
    while isinstance(error, InstantiationException) and error.__cause__:
        error = error.__cause__
    return error


def one_line(error: object) -> str:
    """Return what an error says, or its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
