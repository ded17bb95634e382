"""What an audit of a protected set found: one document, which its owner keeps for himself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from hf_unlearnable.errors import DataError, number_of
from hf_unlearnable.protection.documents import check_keys, kinds_of

Severity = Literal["leak", "warning", "note", "fine", "not looked at"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the worst first


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        severity: ``"leak"``: the set gives away what protects it, or what nobody should know; ``"warning"``: the owner
            should look; ``"note"``: a figure; ``"fine"``: nothing was found; ``"not looked at"``: it could not be done.
        says: one sentence; for what was not looked at, why.
        evidence: figures, names and rows.
    """

    check: str
    severity: Severity
    says: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What all checks found.

    Attributes:
        name: of the set, as it was given.
        images: how many protected images it has.
        findings: the worst first.
    """

    name: str
    images: int
    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that make the set unfit to be published."""
        return tuple(finding for finding in self.findings if finding.severity == "leak")

    def __str__(self) -> str:
        lines = [f"{finding.severity + ':':<15}{finding.check}: {finding.says}" for finding in self.findings]
        return "\n".join([f"{self.name}: {number_of(self.images, 'image')}", "", *lines])

    def as_dict(self) -> dict[str, Any]:
        """Names and values, ready for JSON."""
        return {**asdict(self), "findings": [asdict(finding) for finding in self.findings]}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Audit:
        """The inverse of ``as_dict``.

        Raises:
            DataError: a key that is missing or not known, or a value of another kind.
        """
        kinds = kinds_of(cls)
        check_keys(stored, kinds, (), "an audit", kinds)
        own = {**kinds_of(Finding), "severity": (str,)}
        for finding in stored["findings"]:
            if not isinstance(finding, dict):
                raise DataError(f"got an audit with the finding {finding!r}; expected an object. Audit again")
            check_keys(finding, own, (), "a finding of an audit", own)
            if finding["severity"] not in SEVERITIES:
                raise DataError(f"got the severity {finding['severity']!r}; expected one of {', '.join(SEVERITIES)}")
        return cls(**{**stored, "findings": tuple(Finding(**finding) for finding in stored["findings"])})
