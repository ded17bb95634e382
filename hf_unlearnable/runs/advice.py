"""What is said of a protection before and after the work, on every surface."""

from __future__ import annotations

# Measured with texture on patches of photographs, examples/benchmarks/later_compression.py.
LATER = (
    "Publish the files as they are: JPEG at quality 75 to 95 takes about a fifth of the change away, half the size\n"
    "two thirds (measured for one method; see 'Protect a folder' in the documentation)."
)

FEW = 400  # pictures of an owner: what an effect was measured for, examples/benchmarks/owner.py


def few(count: int) -> str | None:
    """What to say of a few pictures of one owner, of whom nothing can be promised; None of more."""
    if count >= FEW:
        return None
    told = "A single picture gets" if count == 1 else f"{count} pictures of one owner are few: they get"
    return (
        f"{told} the same pattern as many would, but models see it too "
        f"seldom to rely on it. Of 100 among 3,600 of others a small network still recognised 18 % instead of 29; of "
        f"30 it learned nothing from clean ones either."
    )
