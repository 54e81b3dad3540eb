"""The report of the story: measured figures, and the judgement over them (pure)."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

OperationName = Literal[
    "test_failover", "planned_failover", "failback", "unplanned_failover", "reverse_replicate"
]
LOSSLESS: frozenset[OperationName] = frozenset({"planned_failover", "failback"})
COUNTED: frozenset[OperationName] = LOSSLESS | {"unplanned_failover"}
LOOKED_INTO: frozenset[OperationName] = COUNTED | {"test_failover"}


class OperationFigures(BaseModel):
    """What was measured of one operation; None where nothing was checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: OperationName
    vm: str
    seconds: float = Field(ge=0)
    records_lost: int | None = None
    newest_record_age_s: float | None = None
    bytes_equal: bool | None = None
    filesystem_clean: bool | None = None
    job: str


class Finding(BaseModel):
    """Something that must not be, found at one operation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: OperationName
    vm: str
    text: str


class Report(BaseModel):
    """`.lab/report.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: tuple[OperationFigures, ...]
    totals: dict[str, JsonValue]
    versions: dict[str, str]

    @property
    def green(self) -> bool:
        """Whether everything that was asked for was done and found right."""
        return self.totals.get("green") is True


def judge(operations: Sequence[OperationFigures], *, tools_missing: bool) -> list[Finding]:
    """Return every finding; `tools_missing` says that file systems could not be looked into."""
    return [
        Finding(operation=each.operation, vm=each.vm, text=text)
        for each in operations
        for text in _faults(each, tools_missing=tools_missing)
    ]


def _faults(figures: OperationFigures, *, tools_missing: bool) -> list[str]:
    faults = []
    if figures.operation in LOSSLESS:
        if figures.bytes_equal is not True:
            state = "were not compared" if figures.bytes_equal is None else "differ"
            faults.append(f"the bytes of the two sides {state}")
        if figures.records_lost:
            faults.append(f"{figures.records_lost} records were lost; none may be")
    elif figures.bytes_equal is not None:
        faults.append("bytes are compared only where the source stands still")
    if figures.filesystem_clean is False:
        faults.append("the file system or its files are damaged")
    if not tools_missing:
        faults.extend(_not_checked(figures))
    return faults


def _not_checked(figures: OperationFigures) -> list[str]:
    faults = []
    if figures.operation in COUNTED and figures.records_lost is None:
        faults.append("lost records were not counted")
    if figures.operation in LOOKED_INTO and figures.filesystem_clean is None:
        faults.append("the file system was not checked")
    return faults


def build_report(
    operations: Sequence[OperationFigures],
    findings: Sequence[Finding],
    expected: dict[OperationName, int],
    seconds: dict[str, float],
    versions: dict[str, str],
    *,
    tools_missing: bool,
    broken_off: str | None = None,
) -> Report:
    """Return the report; green only when nothing is missing, and nothing was found wrong.

    `broken_off` says why the story ended early, where it did.
    """
    everything = [*findings, *judge(operations, tools_missing=tools_missing)]
    missing = {
        name: count - sum(each.operation == name for each in operations)
        for name, count in expected.items()
    }
    missing = {name: count for name, count in missing.items() if count > 0}
    texts = [f"{each.operation} of {each.vm}: {each.text}" for each in everything]
    if broken_off is not None:
        texts.append(f"the story was broken off: {broken_off}")
    lost = [each.records_lost for each in operations if each.records_lost is not None]
    compared = [each for each in operations if each.bytes_equal is not None]
    totals: dict[str, JsonValue] = {
        "green": not texts and not missing and bool(operations),
        "operations": len(operations),
        "not_done": {str(name): count for name, count in missing.items()},
        "records_lost": sum(lost) if lost else None,
        "bytes_compared": len(compared),
        "bytes_equal": all(each.bytes_equal for each in compared) if compared else None,
        "findings": list[JsonValue](texts),
        **{name: round(value, 3) for name, value in seconds.items()},
    }
    return Report(operations=tuple(operations), totals=totals, versions=versions)
