"""The folder of a run: written by ``protect``, added to by ``measure``, read by everything after them."""

from typing import TYPE_CHECKING

from hf_unlearnable.lazy import lazy_names

if TYPE_CHECKING:
    from hf_unlearnable.protection.findings import Audit, Finding
    from hf_unlearnable.runs.auditing import audit
    from hf_unlearnable.runs.folder import RunFolder
    from hf_unlearnable.runs.importing import import_noise
    from hf_unlearnable.runs.inspecting import intake
    from hf_unlearnable.runs.later import protect_like
    from hf_unlearnable.runs.measuring import measure
    from hf_unlearnable.runs.origin import Origin
    from hf_unlearnable.runs.protected_run import ProtectedRun
    from hf_unlearnable.runs.protecting import protect

__all__ = [
    "Audit",
    "Finding",
    "Origin",
    "ProtectedRun",
    "RunFolder",
    "audit",
    "import_noise",
    "intake",
    "measure",
    "protect",
    "protect_like",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Audit": "auditing",
        "Finding": "auditing",
        "Origin": "origin",
        "ProtectedRun": "protected_run",
        "RunFolder": "folder",
        "audit": "auditing",
        "import_noise": "importing",
        "intake": "inspecting",
        "measure": "measuring",
        "protect": "protecting",
        "protect_like": "later",
    },
)
