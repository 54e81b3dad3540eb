"""docs/privacy.md as data, and the models that it has to list."""

import inspect
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wire_contract.events import Presence
from wire_contract.reports import (
    Heartbeat,
    HostCertificateRequest,
    Registration,
    ReportBatch,
    SessionRequest,
)
from wire_contract.vmm_interface import InventoryView

PAGE = Path(__file__).parents[2] / "docs/privacy.md"
MESSAGES: tuple[type[BaseModel], ...] = (
    Registration,
    HostCertificateRequest,
    SessionRequest,
    Heartbeat,
    InventoryView,
    ReportBatch,
    Presence,
)
"""What a provider sends; everything else in the list is part of one of these."""


def reachable(models: Sequence[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return the models and all models within their fields, each once, in reading order."""
    found: list[type[BaseModel]] = []

    def visit(model: type[BaseModel]) -> None:
        if model in found:
            return
        found.append(model)
        for field in model.model_fields.values():
            for inner in _models_in(field.annotation):
                visit(inner)

    for model in models:
        visit(model)
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)


def listed_fields() -> dict[str, dict[str, tuple[str, str]]]:
    """Return the tables of the page: model or list → field → (purpose, who asks for it)."""
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    for chapter in re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title = chapter.splitlines()[0].strip()
        section = chapter.partition("\n## ")[0]
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| ([^|]*) \|$", section, re.MULTILINE)
        tables[title] = {field: (purpose.strip(), asked.strip()) for field, purpose, asked in rows}
    return tables
