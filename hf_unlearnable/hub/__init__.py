"""Publishing on the Hub: push, pull, verify."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.hub.download import pull, verify
    from hf_unlearnable.hub.publish import check_login, push
    from hf_unlearnable.hub.publish_model import push_model
    from hf_unlearnable.hub.repository import Pushed
    from hf_unlearnable.hub.retry import Retry

__all__ = [
    "Pushed",
    "Retry",
    "check_login",
    "pull",
    "push",
    "push_model",
    "verify",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Pushed": "repository",
        "Retry": "retry",
        "check_login": "publish",
        "pull": "download",
        "push": "publish",
        "push_model": "publish_model",
        "verify": "download",
    },
)
