"""The protection methods. Every module of this folder is found by itself; those named here are imported by users."""

from hf_unlearnable.methods.auto import Auto
from hf_unlearnable.methods.base import (
    Method,
    available_methods,
    describe_findings,
    find_method,
    find_paper,
    get_method,
    methods_used,
)
from hf_unlearnable.methods.baselines.ar import AR
from hf_unlearnable.methods.baselines.cuda import CUDA
from hf_unlearnable.methods.baselines.lsp import LSP
from hf_unlearnable.methods.baselines.noise import Noise
from hf_unlearnable.methods.baselines.pgd import PGD
from hf_unlearnable.methods.baselines.pil import PIL
from hf_unlearnable.methods.baselines.rem import REM
from hf_unlearnable.methods.baselines.tap import TAP
from hf_unlearnable.methods.beo.beo import BEO
from hf_unlearnable.methods.em import EM
from hf_unlearnable.methods.mi_ue import MIUE
from hf_unlearnable.methods.paper import Paper
from hf_unlearnable.methods.task import Task
from hf_unlearnable.methods.texture import Texture

__all__ = [
    "AR",
    "BEO",
    "CUDA",
    "EM",
    "LSP",
    "MIUE",
    "PGD",
    "PIL",
    "REM",
    "TAP",
    "Auto",
    "Method",
    "Noise",
    "Paper",
    "Task",
    "Texture",
    "available_methods",
    "describe_findings",
    "find_method",
    "find_paper",
    "get_method",
    "methods_used",
]
