"""The table of results as it is printed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, PROTECTED, case_of
from hf_unlearnable.evaluation.lines import Accuracy, Line

CANNOT = "cannot be measured"

Tables = Mapping[str, Sequence[Line]]  # the lines of each victim and defence, by what the two are called

UNKNOWN = Accuracy(math.nan, math.nan)


def overview(tables: Tables, *, owner: bool) -> Iterator[str]:
    """A line for each victim and defence; mixtures, which few of them meet, below.

    Args:
        tables: of the report.
        owner: whether one owner's class was measured: then what becomes of the others is shown too.
    """
    width = max(28, *(len(title) for title in tables)) + 2
    more = f"{'others, clean':>15}{'protected':>15}" if owner else ""
    yield f"{'':<{width}}{'clean':>12}{'protected':>15}{'peak epoch':>15}{'score':>8}{more}"
    for title, table in tables.items():
        lines = {line.case.key: line for line in table}
        clean, protected = lines.get(CLEAN), lines.get(PROTECTED)
        score = math.nan if protected is None or protected.protection_score is None else protected.protection_score
        cells = [clean and clean.last, protected and protected.last, protected and protected.peak]
        cells += [clean and clean.others, protected and protected.others] if owner else []
        texts = [_cell(accuracy or UNKNOWN) for accuracy in cells]
        more = "".join(f"   {text:>12}" for text in texts[3:])
        yield f"{title:<{width}}{texts[0]:>12}   {texts[1]:>12}   {texts[2]:>12}{_score(score):>8}{more}".rstrip()
    further = [(title, line) for title, table in tables.items() for line in table if line.seeds]
    mixtures = [(title, line) for title, line in further if line.case.ratio is None]
    for title, line in mixtures:
        yield f"  {title}: {line.text} {_cell(line.last).strip()}"
    yield from _gains([line for _, line in mixtures])


def blocks(tables: Tables, *, owner: bool) -> Iterator[str]:
    """All lines of each victim and defence, then what follows from them; arguments as of ``overview``."""
    for title, table in tables.items():
        yield f"{title:<28}{'last epoch':>12}{'peak epoch':>15}" + (f"{'precision':>15}{'others':>15}" if owner else "")
        lines = [line for line in table if line.seeds]
        for line in lines:
            beside = "".join(f"   {_cell(one):>12}" for one in (line.precision, line.others) if one is not None)
            yield f"  {line.text:<34}{_cell(line.last):>12}   {_cell(line.peak):>12}{beside}"
        for line in lines:
            if line.protection_score is not None and not math.isnan(line.protection_score):
                yield f"  protection score {line.protection_score:.2f} ({_scale(line.protection_score)})"
        yield from _gains(lines)


def sizes(owner: Mapping[str, int]) -> str:
    """How many images of whom there are, of ``Report.owner``."""
    others = f"{owner['others']} clean ones of {owner['classes']} other class(es)"
    asked = f"{owner['owner test']} clean images of the owner and {owner['others test']} of the others"
    return f"{owner['owner']} images of the owner among {others}; tested on {asked}"


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


def _scale(score: float) -> str:
    """What a score means, also one beyond the ends of its scale."""
    scale = "1: protected data teach nothing, 0: all"
    if score > 1:
        return f"{scale}; above 1: the model is below chance"
    return f"{scale}; below 0: more than clean data" if score < 0 else scale


def _score(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
