"""The protection methods; importing this package registers all of them."""

from hf_unlearnable.methods.base import Method, available_methods, get_method
from hf_unlearnable.methods.beo.beo import BEO
from hf_unlearnable.methods.em import EM
from hf_unlearnable.methods.mi_ue import MIUE
from hf_unlearnable.methods.task import Task

__all__ = ["BEO", "EM", "MIUE", "Method", "Task", "available_methods", "get_method"]
