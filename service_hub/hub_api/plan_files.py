"""Documents of recovery plans as bytes, JSON or YAML: read within limits, and written.

YAML is foreign bytes: aliases, by which a small file can become a huge one, and what is too deep
are found before anything is made of it.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import ValidationError

from service_hub.domain.errors import InvalidRequestError
from wire_contract.plan_documents import PlanDocument

JSON_TYPE: Final = "application/json"
YAML_TYPE: Final = "application/yaml"
YAML_TYPES: Final = frozenset({YAML_TYPE, "application/x-yaml", "text/yaml", "text/x-yaml"})
DEPTH_MAX: Final = 12
WIDTH: Final = 100
SHOWN_MAX: Final = 5
"""How many mistakes of a document are told at once."""

_BODY: Final = "body"


async def read_document(data: bytes, content_type: str) -> Mapping[str, Any]:
    """Return the object of a document, beside the loop; InvalidRequestError."""
    return await asyncio.to_thread(document_object, data, content_type)


def document_object(data: bytes, content_type: str) -> Mapping[str, Any]:
    """Return the object that a document's bytes say; InvalidRequestError."""
    try:
        value = _yaml(data) if content_type in YAML_TYPES else json.loads(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = "YAML" if content_type in YAML_TYPES else "JSON"
        told = " ".join(str(error).split())[:200]
        raise InvalidRequestError(f"The body isn't valid {kind} in UTF-8: {told}.", _BODY) from None
    if not isinstance(value, dict):
        raise InvalidRequestError("The body must be an object: a plan's document.", _BODY)
    return value


def plan_document(value: Mapping[str, Any]) -> PlanDocument:
    """Return the document of an object; InvalidRequestError names the places that are wrong."""
    try:
        return PlanDocument.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        places = ["".join(_place(part) for part in each["loc"]).lstrip(".") for each in found]
        told = "; ".join(
            f"{place or 'the document'}: {each['msg']}"
            for place, each in zip(places[:SHOWN_MAX], found, strict=False)
        )
        more = f" (and {len(found) - SHOWN_MAX} more)" if len(found) > SHOWN_MAX else ""
        raise InvalidRequestError(
            f"The plan's document is wrong at {told}{more}. The schema: site-recovery plan schema.",
            places[0][:200] or _BODY,
        ) from None


def document_bytes(document: PlanDocument, content_type: str) -> bytes:
    """Return a document as it is written, without what is empty; made for people to read."""
    value = document.model_dump(mode="json", exclude_defaults=True)
    value = {"format": document.format, **value}
    if content_type == JSON_TYPE:
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text.encode()


def _yaml(data: bytes) -> Any:
    depth = 0
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken here")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise yaml.YAMLError(f"it is more than {DEPTH_MAX} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.load(data, Loader=_LOADER)  # noqa: S506 -- it makes texts, lists and mappings alone


def _place(part: int | str) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part[:100]}"


_LOADER: Final[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Every scalar is a text: a machine may be called 007, no or 2026-01-01. Tags do nothing."""
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""Written in C where the library was built with it: ten times as fast, and the same."""
