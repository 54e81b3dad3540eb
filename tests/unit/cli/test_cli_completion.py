"""Shells complete commands, options and the words that an option takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("site-recovery")
VARIABLE = "_SITE_RECOVERY_COMPLETE"


def completed(shell: str, line: str) -> str:
    words = line.split(" ")
    asked = {
        VARIABLE: f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
    }
    environment = {**os.environ, **asked}
    # Typer's exit code says whether the shell is to complete files.
    done = subprocess.run(
        [PROGRAM], check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes_a_command(shell: str) -> None:
    told = completed(shell, "site-recovery failover pl")
    assert "planned" in told
    assert "unplanned" not in told


def test_options_and_their_words_are_completed() -> None:
    assert "--recovery-point" in completed("bash", "site-recovery failover unplanned web --rec")
    assert completed("bash", "site-recovery job list --output y").split() == ["yaml"]
