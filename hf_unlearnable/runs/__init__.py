"""The folder of a run: written by ``protect``, read by everything after it."""
