"""The operator's command line beside a lab, with profiles of its own."""

import subprocess
import sys
from pathlib import Path

from lab.operator_file import OperatorFile
from tests.support.lab_world import ROOT

PROGRAM = str(Path(sys.executable).with_name("site-recovery"))
SECONDS_MAX = 400


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Give a command of the operator's, with profiles of its own."""
    return subprocess.run(
        [PROGRAM, *words],
        cwd=ROOT,
        env={"SITE_RECOVERY_CONFIG_DIRECTORY": str(folder / "profiles"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def logged_in(folder: Path, file: OperatorFile) -> None:
    """Log in as the estate's operator."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(file.token)
    done = command(
        folder,
        *("login", "--hub", file.base_url, "--ca-file", file.ca_file),
        *("--token-file", str(token), "--vault", file.vault),
        *("--subscription", file.subscription_id, "--resource-group", file.resource_group),
    )
    assert done.returncode == 0, done.stderr
