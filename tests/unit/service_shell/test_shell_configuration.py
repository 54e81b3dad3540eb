from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from service_shell.configuration import ListenSettings, LogSettings, Settings, load_configuration
from service_shell.errors import ProgramError
from service_shell.yaml_document import CONFIGURATION_BYTES_MAX, VALUES_MAX


class Site(Settings):
    """A part that stands in a list."""

    name: str
    listen: ListenSettings | None = None


class Example(Settings):
    """A configuration with a part of each kind."""

    listen: ListenSettings
    log: LogSettings = LogSettings()
    database: Path = Path("hub.sqlite")
    keys: tuple[Path, ...] = ()
    folders: dict[str, Path] = Field(default_factory=dict)
    sites: list[Site] = Field(default_factory=list)


LISTEN = "listen: {host: 127.0.0.1, port: 8443}\n"


def _load(folder: Path, text: str | bytes) -> Example:
    file = folder / "hub.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_configuration(file, Example)


def _complaint(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ProgramError) as refused:
        _load(folder, text)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder / "hub.yaml") in message
    return message.removeprefix(str(folder / "hub.yaml"))


def _outcome(file: Path, model: type[Settings]) -> str:
    try:
        load_configuration(file, model)
    except ProgramError as error:
        return str(error)
    return "loaded"


def test_a_file_becomes_a_model(tmp_path: Path) -> None:
    loaded = _load(tmp_path, LISTEN + "sites: [{name: tokyo}]\n")
    assert loaded.listen == ListenSettings(host="127.0.0.1", port=8443)
    assert loaded.sites == [Site(name="tokyo")]
    assert loaded.log.level == "info"


def test_paths_are_relative_to_the_file_also_defaults_and_nested_ones(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        LISTEN + "keys: [a.pem, /etc/b.pem]\nfolders: {x: ../y}\nlog: {file: logs/hub.log}\n",
    )
    assert loaded.database == tmp_path / "hub.sqlite"
    assert loaded.keys == (tmp_path / "a.pem", Path("/etc/b.pem"))
    assert loaded.folders == {"x": tmp_path / "../y"}
    assert loaded.log.file == tmp_path / "logs/hub.log"


def test_paths_are_absolute_when_the_file_was_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load(tmp_path, LISTEN)
    monkeypatch.chdir(tmp_path)
    assert load_configuration(Path("hub.yaml"), Example).database == tmp_path / "hub.sqlite"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (LISTEN + "databse: x\n", ":2: databse: unknown key; did you mean database?"),
        (
            "listen:\n  host: a\n  prt: 1\n",
            ":3: listen.prt: unknown key; did you mean port? (and 1 more)",
        ),
        (
            LISTEN + "sites:\n- name: a\n- name: b\n  lisen: {}\n",
            ":5: sites.1.lisen: unknown key; did you mean listen?",
        ),
        (
            LISTEN + "sites:\n- name: a\n  listen:\n    host: h\n    port: 1\n    hots: h\n",
            ":7: sites.0.listen.hots: unknown key; did you mean host?",
        ),
        (LISTEN + "zzz: 1\n", ":2: zzz: unknown key; valid keys are database, folders,"),
        ("log: {level: info}\n", ":1: listen: this key is required"),
        ("listen: {host: a}\n", ":1: listen.port: this key is required"),
        ("listen: {host: a, port: 70000}\n", ":1: listen.port: Input should be less"),
        ("listen: {host: a, port: many}\n", ":1: listen.port: Input should be a valid integer"),
        (LISTEN + "log: {level: loud}\n", ":2: log.level: String should match"),
        (LISTEN + "listen: {}\n", ":2: listen: the key stands twice; remove it here or in line 1"),
        (LISTEN + "1: x\n", ":2: 1: "),
        ("- a\n- b\n", ":1: the file: "),
        ("just text", ":1: the file: "),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    assert _complaint(tmp_path, text).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("listen:\n  host: [a\n  port: 1\n", ":3: not valid YAML"),
        ("a: b: c\n", ":1: not valid YAML"),
        ("a: 1\n\tb: 2\n", ":2: not valid YAML"),
        ("a: !!python/object:os.system {}\n", ":1: not valid YAML"),
        ("a: 1\n---\nb: 2\n", ":2: not valid YAML"),
        ("a: 1\n? [b]\n: 2\n", ":2: a key must be plain text"),
        (b"a: 1\nb: \xff\n", ":2: not UTF-8"),
        (b"a: \x00\n", ":1: not valid YAML"),
        ("a: 2024-13-45\n", ":1: a value is out of range"),
        ("a: &x [*x]\n", ":1: the value contains itself"),
        ("[" * 50_000, ":1: nested too deeply"),
        ("a: *nothing\n", ":1: not valid YAML"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    assert _complaint(tmp_path, text).startswith(complaint)


def test_aliases_may_be_used_but_not_multiplied(tmp_path: Path) -> None:
    assert _load(tmp_path, "listen: &here {host: a, port: 1}\nsites: [{name: b, listen: *here}]")
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
    )
    assert f"more than {VALUES_MAX} values" in _complaint(tmp_path, bomb)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    assert "larger than" in _complaint(tmp_path, b"#" * (CONFIGURATION_BYTES_MAX + 1))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="is missing"):
        load_configuration(tmp_path / "nothing.yaml", Example)
    with pytest.raises(ProgramError, match="cannot read"):
        load_configuration(tmp_path, Example)


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_configuration(tmp_path / "empty.yaml", LogSettings).level == "info"


@settings(deadline=None, max_examples=200)
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_arbitrary_bytes_load_or_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(data)
    assert "\n" not in _outcome(file, LogSettings)


@settings(deadline=None, max_examples=200)
@given(
    data=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["listen", "host", "log", "sites", "x"]), inner),
        ),
        max_leaves=10,
    )
)
def test_any_structure_loads_or_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: object
) -> None:
    file = tmp_path_factory.getbasetemp() / "structure.yaml"
    file.write_text(yaml.safe_dump(data))
    assert "\n" not in _outcome(file, Example)
