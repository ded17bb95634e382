"""The errors of the package: each says what was got, what was expected and what to do.

Every class is also a builtin error, so that callers who do not know this package can still catch it.
"""


class UnlearnableError(Exception):
    """Base class of everything that this package raises on purpose."""


class BudgetError(UnlearnableError, ValueError):
    """A perturbation budget that is not one, or that was exceeded."""


class DataError(UnlearnableError, ValueError):
    """A dataset, column, label or image that cannot be protected or measured as it is."""


class SourceError(UnlearnableError, FileNotFoundError):
    """A dataset, model or protection that is not where it was said to be."""


class RecipeError(UnlearnableError, ValueError):
    """A method, surrogate or setting that does not exist or contradicts another one."""


class MissingExtraError(RecipeError, ImportError):
    """Something that needs a package of an extra (``hf-unlearnable[figures]``) that is not installed."""


class PluginError(UnlearnableError, ImportError):
    """Somebody else's methods, defences or victims that cannot be imported, or are not what they are called."""


class UnseenImageError(UnlearnableError, LookupError):
    """An image (with its label) for which no perturbation was fitted."""


class DivergenceError(UnlearnableError, ArithmeticError):
    """An optimisation that left the finite numbers."""


class OutputError(UnlearnableError, FileExistsError):
    """A place to write to that already holds something."""


class CheckpointError(UnlearnableError, RuntimeError):
    """What a stopped fit left behind, but of another fit, or damaged."""


class PrivacyError(UnlearnableError, PermissionError):
    """Something private that was about to be published, or to be published to more people than was asked."""


class AccessError(UnlearnableError, PermissionError):
    """A token that the Hub does not know, or that may not do this; or none at all."""


class HubError(UnlearnableError, ConnectionError):
    """A push or pull that did not come to its end: says what is there, what is not, and how to go on."""


class DataWarning(UserWarning):
    """Something that is done to a dataset's images or labels and that its owner should know."""


def first_line(error: Exception) -> str:
    """The first line of another library's message, to quote in one of ours; its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
