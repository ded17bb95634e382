"""The protection methods. Every module of this folder is found by itself; those named here are imported by users."""

from hf_unlearnable.methods.base import Method, available_methods, describe_findings, find_paper, get_method
from hf_unlearnable.methods.beo.beo import BEO
from hf_unlearnable.methods.em import EM
from hf_unlearnable.methods.mi_ue import MIUE
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task

__all__ = [
    "BEO",
    "EM",
    "MIUE",
    "Method",
    "Paper",
    "Task",
    "available_methods",
    "describe_findings",
    "find_paper",
    "get_method",
]
