"""The paper that a method comes from, and how to cite it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper, as ``Method.citation`` names it and cards cite it.

    Args:
        key: of its BibTeX entry, such as ``"huang2021unlearnable"``.
        title: in full.
        authors: each as BibTeX takes it: ``"Huang, Hanxun"``.
        year: of its first version.
        arxiv: its number there, such as ``"2101.04898"``; None if it is not there.
        venue: journal or conference; arXiv when left out.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    arxiv: str | None = None
    venue: str | None = None

    @property
    def url(self) -> str | None:
        """Where it is on arXiv, if it is there."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else None

    @property
    def bibtex(self) -> str:
        """Its BibTeX entry."""
        fields = {
            "title": self.title,
            "author": " and ".join(self.authors),
            "journal": self.venue or (f"arXiv preprint arXiv:{self.arxiv}" if self.arxiv else None),
            "year": self.year,
            "url": self.url,
        }
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        return ",\n".join([f"@article{{{self.key}", *lines]) + "\n}"
