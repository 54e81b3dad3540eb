"""The first script that a newcomer's machine runs, on machines that lack things."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / ".ci/prerequisites"
SHELL_TOOLS = ("sh", "id", "printf", "echo", "env", "cat", "rm", "chmod", "true")
PROGRAMS = (
    *("mkfs.ext4", "debugfs", "e2fsck"),
    *("mosquitto", "squid", "tinyproxy", "postgresql", "openssl", "faketime"),
    *("krb5kdc", "kadmin.local", "knotd", "nft", "ip", "krb5-config", "gcc"),
)
"""What the script looks for where tests are to run."""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a folder that is the whole PATH of a machine: a shell, make and Python."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in SHELL_TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "make").symlink_to("/bin/true")
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in PROGRAMS:
        (tools / name).symlink_to("/bin/true")
    return tools


def run(tools: Path, purpose: str = "lab") -> subprocess.CompletedProcess[str]:
    """Run the script in an empty clone; system folders for root's tools do not exist there."""
    script = tools.parent / "prerequisites"
    text = SCRIPT.read_text().replace(":/usr/sbin:/sbin", "")
    script.write_text(text.replace("/usr/sbin/policy-rc.d", str(tools.parent / "policy-rc.d")))
    return subprocess.run(
        [str(tools / "sh"), str(script), purpose],
        cwd=tools.parent,
        env={"PATH": str(tools), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def break_python(tools: Path, *modules: str) -> None:
    """Make the machine's Python lack modules, as Debian's does without python3-venv."""
    patterns = "|".join(f"*{module}*" for module in modules)
    python = tools / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$2" in {patterns}) exit 1;; esac\nexec "{sys.executable}" "$@"\n'
    )


def test_a_machine_with_everything_is_told_nothing(machine: Path) -> None:
    done = run(machine)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(machine / "python3")


def test_what_is_missing_is_one_apt_line(machine: Path) -> None:
    (machine / "python3").unlink()
    (machine / "make").unlink()
    (machine / "debugfs").unlink()
    done = run(machine)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "apt-get install" in line]
    assert lines == [
        "Missing on this machine; as root: apt-get install -y make python3 python3-venv e2fsprogs"
    ]


def test_without_venv_virtualenv_is_good_enough(machine: Path) -> None:
    break_python(machine, "ensurepip")
    (machine / "virtualenv").symlink_to("/bin/true")
    assert run(machine).returncode == 0


def test_without_venv_and_virtualenv_there_is_no_way(machine: Path) -> None:
    break_python(machine, "ensurepip", "virtualenv")
    done = run(machine)
    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_missing_e2fsprogs_is_told_but_stops_nothing(machine: Path) -> None:
    (machine / "e2fsck").unlink()
    done = run(machine)
    assert done.returncode == 0
    assert "apt-get install -y e2fsprogs" in done.stderr


def test_an_old_python_is_none(machine: Path) -> None:
    python = machine / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    done = run(machine)
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr


def test_for_the_tests_what_is_missing_is_installed_where_it_needs_no_password(
    machine: Path,
) -> None:
    (machine / "e2fsck").unlink()
    called = machine.parent / "called"
    installer = machine / "apt-get"
    installer.write_text(
        f'#!{shutil.which("sh")}\necho "$@" >> {called}\n{shutil.which("ln")} -s /bin/true '
        f"{machine}/e2fsck\n"
    )
    installer.chmod(0o755)
    (machine / "id").unlink()
    (machine / "id").write_text("#!/bin/sh\necho 0\n")
    (machine / "id").chmod(0o755)
    done = run(machine, "test")
    assert done.returncode == 0
    assert "install -qq -y --no-install-recommends e2fsprogs" in called.read_text()
    assert "Missing" not in done.stderr


def test_a_real_component_of_the_tests_is_installed_without_being_started(machine: Path) -> None:
    (machine / "squid").unlink()
    policy = machine.parent / "policy-rc.d"
    installer = machine / "apt-get"
    installer.write_text(
        f"#!{shutil.which('sh')}\n{policy} squid start\n"
        f'[ "$?" = 101 ] && {shutil.which("ln")} -s /bin/true {machine}/squid\n'
    )
    installer.chmod(0o755)
    (machine / "id").unlink()
    (machine / "id").write_text("#!/bin/sh\necho 0\n")
    (machine / "id").chmod(0o755)
    assert "squid" not in run(machine, "lab").stderr
    done = run(machine, "test")
    assert (done.returncode, "Missing" in done.stderr) == (0, False)
    assert not policy.exists()


def test_for_the_tests_without_rights_it_is_told_only(machine: Path) -> None:
    (machine / "e2fsck").unlink()
    (machine / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    (machine / "apt-get").chmod(0o755)
    (machine / "id").unlink()
    (machine / "id").write_text("#!/bin/sh\necho 1000\n")
    (machine / "id").chmod(0o755)
    done = run(machine, "test")
    assert done.returncode == 0
    assert "apt-get install -y e2fsprogs" in done.stderr
