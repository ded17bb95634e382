"""What the page says, as HTML: every name of a file is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path, PurePath

from hf_unlearnable.app.jobs import Step
from hf_unlearnable.app.preview import Preview
from hf_unlearnable.app.work import PICTURES, Looked, Made
from hf_unlearnable.errors import in_words, number_of
from hf_unlearnable.progress import duration
from hf_unlearnable.runs.advice import LATER, few

MOST = 50  # names in one list

INTRODUCTION = """
# Make pictures hard to learn from
A pattern is laid over each picture. A model that is trained on the protected pictures is to learn the pattern
instead of what they show. **Your pictures stay in a private folder of the machine that runs this page, and are deleted
when you close it.**
"""

PATTERN = (
    "Your largest picture with a pattern of the method texture. The final one is drawn from all pictures together; it "
    "is as strong and as fine as this one. That of MI-UE is as strong, and looks different."
)

DROP = """
<div class="hu-drop" data-key="{key}">
  <p>Drop a folder, a zip or pictures here</p>
  <p class="hu-choose">
    <label>Choose pictures or a zip<input type="file" multiple aria-label="Choose pictures or a zip"></label>
    <label>Choose a folder<input type="file" webkitdirectory multiple aria-label="Choose a folder"></label>
  </p>
  <p class="hu-sent" role="status"></p>
</div>
"""


def told(text: str, kind: str = "note") -> str:
    """A sentence in a box: ``note``, ``warning`` or ``error``."""
    role = "alert" if kind == "error" else "status"
    return f'<div class="hu-{kind}" role="{role}">{"<br>".join(escape(text).splitlines())}</div>'


def failed(error: Exception, home: Path) -> str:
    """An error, without the place on this machine where a visitor's pictures lie: it is nobody's business.

    Args:
        error: what was raised.
        home: the folder of the visitor.
    """
    text = str(error)
    for place in {str(home), str(home.resolve())}:
        text = text.replace(f"{place}/{PICTURES}/", "").replace(repr(f"{place}/{PICTURES}"), "what you sent")
        text = text.replace(f"{place}/", "").replace(place, "this visit")
    return told(text, "error")


def progress(step: Step) -> str:
    """A bar, what is going on, and how long it will take, or has taken where nothing is counted."""
    left = f", about {duration(step.left)} left" if step.left is not None else ""
    what = escape(step.what or "beginning")
    done = f": {100 * step.share:.0f} %{left}" if step.share else f" ({duration(step.seconds)})"
    return (
        f'<div class="hu-progress" role="status"><progress max="1" value="{step.share:.3f}" aria-label="{what}">'
        f"</progress><span>{what}{done}</span></div>"
    )


def found(looked: Looked) -> str:
    """What was found, what is left out, and what is broken."""
    intake = looked.intake
    (low, short), (high, long) = (pick(looked.survey.sizes, key=math.prod) for pick in (min, max))
    span = f"{short}×{low}" + (f" to {long}×{high}" if len(looked.survey.sizes) > 1 else "")
    lines = [f"<b>{number_of(looked.pictures, 'picture')}</b> can be protected: {span} pixels."]
    if len(looked.folders) > 1:
        shown = [f"{escape(name)} ({count:,})" for name, count in list(looked.folders.items())[:12]]
        more = f", and {len(looked.folders) - 12} more" if len(looked.folders) > 12 else ""
        lines.append(f"Folders: {', '.join(shown)}{more}.")
        if not looked.kinds:
            lines.append("A folder with fewer than two pictures is no kind of them, so all are taken as one.")
    lines += [f"Converted: {count:,} {escape(change)}." for change, count in intake.conversions.items()]
    if intake.space is not None:
        lines.append(f"Protected they are PNG files without loss, about {in_words(intake.space.png)} in all.")
    parts = [f"<p>{' '.join(lines)}</p>"]
    broken = [(_below(image.path), image.why) for image in intake.broken]
    parts += _list(f"{number_of(len(broken), 'picture')} broken", broken, "error")
    lost = [(file.path, file.why) for file in intake.left_out if file.picture]
    parts += _list(f"{number_of(len(lost), 'file')} left out that may be pictures", lost, "warning")
    other = [(file.path, file.why) for file in intake.left_out if not file.picture]
    other += [(name, "no picture: not kept") for name in looked.refused]
    parts += _list(f"{number_of(len(other), 'other file')} left out", other, "note")
    if intake.duplicates:
        groups = [(_below(group[0]), "the same as " + ", ".join(map(_below, group[1:]))) for group in intake.duplicates]
        parts += _list(f"{len(groups)} times the same picture in several folders: keep one", groups, "warning")
    if looked.kinds == 0 and (warning := few(looked.pictures)):
        parts.append(told(warning, "note"))
    return f'<div class="hu-found">{"".join(parts)}</div>'


def preview(pictures: Preview) -> str:
    """Before and after, one over the other, with a slider; the whole picture, and its smoothest part."""
    width, height = pictures.size
    whole = _compare("whole", *pictures.whole, "image/jpeg", f"The whole picture, {width}×{height} pixels")
    part = _compare("part", *pictures.part, "image/png", "Its smoothest part, where a change is seen first")
    return f'<div class="hu-preview">{whole}{part}</div><p class="hu-small">{PATTERN}</p>'


def made(result: Made, key: str) -> str:
    """What was protected, and the link to fetch it."""
    checked = result.verification
    change = f"The largest change is {checked.max_perturbation:g} levels of 255, as read back from disk."
    same = [(_below(path), "leave it out, or protect again with a larger change") for path in result.unchanged]
    title = f"{number_of(len(same), 'picture')} did not change and would be published clean"
    unchanged = "".join(_list(title, same, "warning"))
    count = number_of(result.pictures - len(same), "picture")
    return (
        f'<div class="hu-made"><p><b>{count} protected.</b> {change}</p>{unchanged}'
        f'<p><a class="hu-fetch" href="protected/{key}" download="protected.zip">Download the zip '
        f"({in_words(result.zip_bytes)})</a></p><p>{escape(LATER)}</p></div>"
    )


def _compare(name: str, before: bytes, after: bytes, kind: str, title: str) -> str:
    clean, protected = (f"data:{kind};base64,{base64.b64encode(content).decode()}" for content in (before, after))
    return (
        f'<figure class="hu-compare hu-{name}"><div><img src="{protected}" alt="protected"><img class="hu-before" '
        f'src="{clean}" alt="before"><i></i><span>before</span><span>protected</span><input type="range" min="0" '
        f'max="100" value="50" aria-label="{title}: before and after"></div><figcaption>{title}.</figcaption></figure>'
    )


def _list(title: str, files: Sequence[tuple[str, str]], kind: str) -> Iterable[str]:
    """A list that can be opened; nothing where it is empty."""
    if not files:
        return []
    lines = "".join(f"<li><code>{escape(name)}</code> {escape(why)}</li>" for name, why in files[:MOST])
    more = f"<li>and {len(files) - MOST:,} more</li>" if len(files) > MOST else ""
    opened = "" if kind == "note" else " open"
    return [f'<details class="hu-{kind}"{opened}><summary>{title}</summary><ul>{lines}{more}</ul></details>']


def _below(path: str | None) -> str:
    """The name of a picture below the folder of its visitor, whose place is nobody's business."""
    if path is None:
        return "a picture"
    parts = PurePath(path).parts
    return "/".join(parts[parts.index(PICTURES) + 1 :]) if PICTURES in parts else path
