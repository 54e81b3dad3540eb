"""docs/privacy.md lists exactly what the closed schemas let out of a site."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.support.privacy_page import MESSAGES, listed_fields, reachable
from wire_contract.reports import Registration, TaskOutcome

MODELS = reachable(MESSAGES)
OPEN_FIELDS = {("TaskOutcome", "observed")}
"""The one field whose keys depend on the verb; the page lists them."""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_page_lists_each_field_with_its_purpose(model: type[BaseModel]) -> None:
    rows = listed_fields().get(model.__name__)
    assert rows is not None, f"docs/privacy.md has no section {model.__name__}"
    assert list(rows) == list(model.model_fields), (
        f"docs/privacy.md, section {model.__name__}: list exactly the fields of the model,"
        " each with its purpose and the section or feature that needs it"
    )
    assert all(purpose and asked for purpose, asked in rows.values())


def test_the_page_lists_no_model_that_is_not_sent() -> None:
    lists = {"Transport", "Headers", "Query", "MQTT", "Observed", "Result"}
    assert set(listed_fields()) == lists | {model.__name__ for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_schemas_are_closed(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    for name, part in ({model.__name__: schema} | schema.get("$defs", {})).items():
        if part.get("type") == "object":
            assert part.get("additionalProperties") is False, name
    opened = {
        (model.__name__, field)
        for field, content in schema["properties"].items()
        if _is_open(content)
    }
    assert opened <= OPEN_FIELDS


def _is_open(schema: dict[str, Any]) -> bool:
    """Whether anything may stand there: no type, any JSON, or an object with any values."""
    if str(schema.get("$ref", "")).endswith("/JsonValue"):
        return True
    kinds = {"type", "$ref", "anyOf", "oneOf", "const", "enum"}
    if not kinds & set(schema):
        return True
    alternatives = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    inner = schema.get("additionalProperties", False)
    if isinstance(inner, dict):
        alternatives.append(inner)
    if isinstance(schema.get("items"), dict):
        alternatives.append(schema["items"])
    return inner is True or any(_is_open(each) for each in alternatives)


def test_an_unknown_field_is_refused() -> None:
    known = {
        "vmm_id": "v",
        "vmm_fqdn": "vmm",
        "friendly_name": "vmm",
        "provider_version": "1",
        "vmm_version": "3",
    }
    assert Registration.model_validate(known).vmm_id == "v"
    with pytest.raises(ValidationError, match="password"):
        Registration.model_validate({**known, "password": "secret"})


def test_the_open_field_is_seen_as_open() -> None:
    assert _is_open(TaskOutcome.model_json_schema()["properties"]["observed"])
