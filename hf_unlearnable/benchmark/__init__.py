"""Where methods are compared: a frozen protocol, cells that are kept one by one, and the tables made of them."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.benchmark.config import Config
    from hf_unlearnable.benchmark.pages import write_pages
    from hf_unlearnable.benchmark.running import run
    from hf_unlearnable.benchmark.submission import check

__all__ = ["Config", "check", "run", "write_pages"]

__getattr__, __dir__ = lazy_names(
    __name__, {"Config": "config", "check": "submission", "run": "running", "write_pages": "pages"}
)
