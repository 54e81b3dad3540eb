import json
from pathlib import Path

import pytest

from provider_agent.setup.package import ADDRESSES, MANIFEST, UNIT, extract, open_package
from provider_agent.setup.service_unit import unit_text
from service_shell.errors import ProgramError

FILES = {UNIT: "[Unit]\n", ADDRESSES: "a -> b:1\n"}
ROOT = Path(__file__).parents[3]


def test_what_was_extracted_is_installed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        extract(folder, "0.1.0", FILES)
        assert open_package(folder, "0.1.0") == FILES


@pytest.mark.parametrize("name", [UNIT, ADDRESSES])
def test_a_changed_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    extract(tmp_path, "0.1.0", FILES)
    (tmp_path / name).write_text("ExecStart=/bin/evil\n")
    with pytest.raises(ProgramError, match=r"was changed since it was extracted.*extract it again"):
        open_package(tmp_path, "0.1.0")
    (tmp_path / name).unlink()
    with pytest.raises(ProgramError, match="cannot be read"):
        open_package(tmp_path, "0.1.0")


def test_another_version_is_refused(tmp_path: Path) -> None:
    extract(tmp_path, "0.0.9", FILES)
    with pytest.raises(ProgramError, match=r"holds provider 0\.0\.9, this program is 0\.1\.0"):
        open_package(tmp_path, "0.1.0")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', "\x00", "[" * 100_000, json.dumps({"files": {}})]
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    extract(tmp_path, "0.1.0", FILES)
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ProgramError, match=r"manifest in .* is damaged"):
        open_package(tmp_path, "0.1.0")


def test_an_empty_folder_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="holds no extracted provider"):
        open_package(tmp_path, "0.1.0")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgramError, match="cannot extract into"):
        extract(tmp_path / "file" / "below", "0.1.0", FILES)


def test_the_unit_in_deploy_is_the_one_that_set_up_writes() -> None:
    shown = (ROOT / "deploy" / "systemd" / "provider-agent.service").read_text()
    made = unit_text(
        Path("/opt/site-recovery/bin/provider-agent"),
        Path("/etc/site-recovery/provider-agent.yaml"),
        "site-recovery",
    )
    assert shown == made


@pytest.mark.parametrize("name", ["/a b", "/a\nExecStartPre=/bin/evil", "/%h", '/a"', "/$x"])
def test_names_that_systemd_would_read_differently_are_refused(name: str) -> None:
    with pytest.raises(ProgramError, match="cannot stand in a systemd unit"):
        unit_text(Path("/bin/agent"), Path(name), "user")
