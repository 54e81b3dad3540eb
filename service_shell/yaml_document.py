"""YAML that is read with limits, remembers its lines and refuses a key that stands twice."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from service_shell.errors import ProgramError

CONFIGURATION_BYTES_MAX: Final = 4_194_304
VALUES_MAX: Final = 250_000
"""Most values after all aliases are followed: aliases of aliases grow without bound. The inventory
of a site of 5,000 machines has 165,000."""

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class YamlDocument:
    """A parsed file; `lines` knows where each key and list entry stands."""

    value: Any
    lines: dict[tuple[str, ...], int]

    def line_of(self, location: Location) -> int:
        """Return the line of the entry, or of the nearest one around it that is in the file."""
        steps = tuple(str(step) for step in location)
        for length in range(len(steps), 0, -1):
            if steps[:length] in self.lines:
                return self.lines[steps[:length]]
        return 1


def read_yaml(path: Path) -> YamlDocument:
    """Return the file's value; an empty file is an empty mapping; ProgramError names the line."""
    text = _read_text(path)
    try:
        return _parse(path, text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise ProgramError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ProgramError(f"{path}:1: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ProgramError(f"{path}:1: nested too deeply; write it flatter") from error
    except ValueError as error:
        # A timestamp or number that has the form but not the range, as in 2024-13-45.
        raise ProgramError(f"{path}:1: a value is out of range: {error}") from error


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(CONFIGURATION_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ProgramError(f"{path} is missing; name an existing configuration file") from error
    except OSError as error:
        raise ProgramError(f"cannot read {path}: {error.strerror}; name a readable file") from error
    if len(data) > CONFIGURATION_BYTES_MAX:
        raise ProgramError(
            f"{path} is larger than {CONFIGURATION_BYTES_MAX} bytes; is it a configuration?"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ProgramError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error


def _parse(path: Path, text: str) -> YamlDocument:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return YamlDocument({}, {})
        sizes: dict[int, int | None] = {}
        if _size(path, root, sizes) > VALUES_MAX:
            raise ProgramError(f"{path}:1: more than {VALUES_MAX} values; write less")
        lines: dict[tuple[str, ...], int] = {}
        _collect_lines(path, root, (), lines)
        return YamlDocument(loader.construct_document(root), lines)
    finally:
        loader.dispose()


def _size(path: Path, node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """Return how many values the node stands for; each node is counted once, then remembered."""
    if id(node) in sizes:
        known = sizes[id(node)]
        if known is None:
            line = node.start_mark.line + 1
            raise ProgramError(f"{path}:{line}: the value contains itself; remove the alias")
        return known
    sizes[id(node)] = None
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_size(path, each, sizes) for each in node.value)
    elif isinstance(node, yaml.MappingNode):
        size += sum(_size(path, key, sizes) + _size(path, each, sizes) for key, each in node.value)
    sizes[id(node)] = size
    return size


def _collect_lines(
    path: Path, node: yaml.Node, location: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> None:
    lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, each in enumerate(node.value):
            _collect_lines(path, each, (*location, str(index)), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, each in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ProgramError(f"{path}:{line}: a key must be plain text")
            inner = (*location, str(key.value))
            if inner in lines:
                raise ProgramError(
                    f"{path}:{line}: {key.value}: the key stands twice;"
                    f" remove it here or in line {lines[inner]}"
                )
            lines[inner] = line
            _collect_lines(path, each, inner, lines)
