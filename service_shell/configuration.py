"""Configuration files: YAML in, one frozen model out, or one line that says what to correct."""

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from service_shell.errors import ProgramError
from service_shell.yaml_document import Location, YamlDocument, read_yaml


class Settings(BaseModel):
    """Part of a configuration: unknown keys are refused, nothing changes after loading.

    A relative path, also one inside a list or a mapping, is relative to the file's folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="after")
    @classmethod
    def _resolve_paths(cls, value: Any, info: ValidationInfo) -> Any:
        base = (info.context or {}).get("base")
        return value if base is None else _resolve_within(value, base)


class ListenSettings(Settings):
    """An address to listen on; port 0 takes a free one."""

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(ge=0, le=65_535)


class LogSettings(Settings):
    """Where the log goes: JSON lines to `file`, or a readable console where there is none."""

    file: Path | None = None
    level: str = Field(default="info", pattern="^(debug|info|warning|error)$")


SettingsT = TypeVar("SettingsT", bound=Settings)


def resolve(path: Path, base: Path) -> Path:
    """Return `path` as it stands in a file of folder `base`: absolute when `base` is."""
    return base / path


def load_configuration(path: Path, model: type[SettingsT]) -> SettingsT:
    """Return the checked configuration, or raise a ProgramError with file, line, key and cause."""
    document = read_yaml(path)
    context = {"base": path.absolute().parent}
    try:
        return model.model_validate(document.value, context=context)
    except ValidationError as error:
        raise ProgramError(_explain(path, document, model, error)) from error


def _resolve_within(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return resolve(value, base)
    if type(value) in (tuple, list, set, frozenset):
        return type(value)(_resolve_within(each, base) for each in value)
    if type(value) is dict:
        return {key: _resolve_within(each, base) for key, each in value.items()}
    return value


def _explain(
    path: Path, document: YamlDocument, model: type[BaseModel], error: ValidationError
) -> str:
    problems = error.errors(include_url=False, include_input=False)
    # A misspelt key shows as two problems, one unknown and one missing: the unknown one helps.
    problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    location: Location = problem["loc"]
    key = ".".join(str(step) for step in location) or "the file"
    others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}:{document.line_of(location)}: {key}: {_cause(problem, model)}{others}"


def _cause(problem: ErrorDetails, model: type[BaseModel]) -> str:
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key; {_advice(problem['loc'], model)}"
        case "missing":
            return "this key is required; add it"
        case _:
            return problem["msg"]


def _advice(location: Location, model: type[BaseModel]) -> str:
    valid = sorted({name for each in _models_at(location[:-1], model) for name in _keys(each)})
    nearest = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
    if nearest:
        return f"did you mean {nearest[0]}?"
    return f"valid keys are {', '.join(valid)}" if valid else "remove it"


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _models_at(location: Location, model: type[BaseModel]) -> set[type[BaseModel]]:
    """Return the models whose keys may stand at `location`; a union offers several."""
    models = {model}
    for step in location:
        inner = {
            found
            for each in models
            for name, field in each.model_fields.items()
            if step in (name, field.alias)
            for found in _models_in(field.annotation)
        }
        # An index of a list, a key of a mapping, the tag of a union: the models stay.
        models = inner or models
    return models


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for part in get_args(annotation) for found in _models_in(part)}
