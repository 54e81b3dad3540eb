"""Outcomes of a scenario as a JUnit report, as continuous integration reads it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from service_shell.atomic_files import write_atomically
from site_recovery_cli.scenario_run import StepOutcome

_UNFIT: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot carry."""


def report(name: str, outcomes: Sequence[StepOutcome]) -> bytes:
    """Return the report: a suite, and a case for each step."""
    suite = ET.Element(
        "testsuite",
        name=_fit(name),
        tests=str(len(outcomes)),
        failures=str(sum(each.problem is not None for each in outcomes)),
        skipped=str(sum(each.skipped for each in outcomes)),
        time=f"{sum(each.seconds for each in outcomes):.3f}",
    )
    for each in outcomes:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_fit(name),
            name=_fit(each.name),
            time=f"{each.seconds:.3f}",
        )
        if each.problem is not None:
            ET.SubElement(case, "failure", message=_fit(each.problem))
        if each.skipped:
            ET.SubElement(case, "skipped")
    return bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def write_report(path: Path, name: str, outcomes: Sequence[StepOutcome]) -> None:
    """Write the report, whole or not at all."""
    write_atomically(path, report(name, outcomes))


def _fit(text: str) -> str:
    return _UNFIT.sub("?", text)
