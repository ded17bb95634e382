"""The command line."""

from hf_unlearnable.cli.command import app, main

__all__ = ["app", "main"]
