"""The protection methods. Every module of this folder is found by itself; those named here are imported by users."""

from hf_unlearnable.methods.auto import Auto
from hf_unlearnable.methods.base import (
    Method,
    available_methods,
    describe_findings,
    find_paper,
    get_method,
    methods_used,
)
from hf_unlearnable.methods.beo.beo import BEO
from hf_unlearnable.methods.em import EM
from hf_unlearnable.methods.mi_ue import MIUE
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.texture import Texture

__all__ = [
    "BEO",
    "EM",
    "MIUE",
    "Auto",
    "Method",
    "Paper",
    "Task",
    "Texture",
    "available_methods",
    "describe_findings",
    "find_paper",
    "get_method",
    "methods_used",
]
