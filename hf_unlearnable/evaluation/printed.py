"""The table of results as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, PROTECTED, case_of
from hf_unlearnable.evaluation.lines import Accuracy, Line

CANNOT = "cannot be measured"

Blocks = Mapping[str, Sequence[Line]]  # what to call a victim that meets a defence -> its lines


def overview(blocks: Blocks) -> Iterator[str]:
    """A line for each victim and defence; mixtures, which few of them meet, below."""
    width = max(28, *(len(title) for title in blocks)) + 2
    yield f"{'':<{width}}{'clean':>12}{'protected':>15}{'peak epoch':>15}{'score':>8}"
    for title, block in blocks.items():
        lines = {line.case.key: line for line in block}
        clean, protected = lines.get(CLEAN), lines.get(PROTECTED)
        score = math.nan if protected is None or protected.protection_score is None else protected.protection_score
        cells = [clean and clean.last, protected and protected.last, protected and protected.peak]
        texts = [_cell(accuracy or Accuracy(math.nan, math.nan)) for accuracy in cells]
        yield f"{title:<{width}}{texts[0]:>12}   {texts[1]:>12}   {texts[2]:>12}{_score(score):>8}".rstrip()
    mixtures = {title: [line for line in block if line.case.ratio is None] for title, block in blocks.items()}
    for title, lines in mixtures.items():
        yield from (f"  {title}: {line.text} {_cell(line.last).strip()}" for line in lines if line.seeds)
    yield from _gains([line for lines in mixtures.values() for line in lines if line.seeds])


def details(blocks: Blocks) -> Iterator[str]:
    """Every line of each victim and defence, then what follows from them."""
    for title, block in blocks.items():
        yield f"{title:<28}{'last epoch':>12}{'peak epoch':>15}"
        lines = [line for line in block if line.seeds]
        for line in lines:
            yield f"  {line.text:<34}{_cell(line.last):>12}   {_cell(line.peak):>12}"
        for line in lines:
            if line.protection_score is not None and not math.isnan(line.protection_score):
                yield f"  protection score {line.protection_score:.2f} (1: protected data teach nothing, 0: all)"
        yield from _gains(lines)


def _gains(lines: Sequence[Line]) -> Iterator[str]:
    """What protected images add in each mixture."""
    alone = case_of(CLEAN_PART).text
    for line in lines:
        which = f"{line.case.text} - {alone}, {line.ratio:.0%} protected"
        if line.theft_gain is not None and not math.isnan(line.theft_gain):
            yield f"  theft gain {100 * line.theft_gain:+.1f} points ({which})"
        elif line.clean_part is not None and not math.isnan(line.clean_part.mean):
            yield f"  theft gain {CANNOT} ({which})"


def _cell(accuracy: Accuracy) -> str:
    if math.isnan(accuracy.mean):
        return f"{'-':>5}       "
    spread = "       " if math.isnan(accuracy.spread) else f" ± {100 * accuracy.spread:4.1f}"
    return f"{100 * accuracy.mean:5.1f}{spread}"


def _score(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
