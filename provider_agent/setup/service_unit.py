"""The systemd unit of the provider, and putting it where systemd looks."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service_shell.atomic_files import write_atomically
from service_shell.errors import ProgramError

SYSTEMCTL_SECONDS_MAX: Final = 60.0
UNIT_NAME: Final = "provider-agent.service"

_UNIT: Final = """\
[Unit]
Description=Site Recovery provider beside a VMM server
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
User={user}
ExecStart={program} run --config {config}
Restart=on-failure
RestartSec=5
WatchdogSec=60
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes
UMask=0077

[Install]
WantedBy=multi-user.target
"""


def unit_text(program: Path, config: Path, user: str) -> str:
    """Return the unit; refuse names that systemd would read as something else."""
    for value in (str(program), str(config), user):
        if any(character in value for character in "\n\r\"'\\%$ "):
            raise ProgramError(
                f"{value!r} cannot stand in a systemd unit; use a path without blanks, quotes,"
                " backslashes, % and $"
            )
    return _UNIT.format(program=program, config=config, user=user)


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The systemd of this machine."""

    runtime_directory: Path = Path("/run/systemd/system")
    unit_directory: Path = Path("/etc/systemd/system")
    systemctl: str = "systemctl"

    def runs(self) -> bool:
        """Return whether systemd runs here (sd_booted(3))."""
        return self.runtime_directory.is_dir()

    async def install(self, unit: str) -> None:
        """Install the unit and have it started at boot; it starts after registration."""
        path = self.unit_directory / UNIT_NAME
        try:
            await asyncio.to_thread(write_atomically, path, unit.encode())
        except OSError as error:
            raise ProgramError(
                f"cannot write {path}: {error.strerror}; run set-up as root"
            ) from error
        await self._run("daemon-reload")
        await self._run("enable", UNIT_NAME)

    async def remove(self) -> None:
        """Stop the unit and take it away; none is no error."""
        path = self.unit_directory / UNIT_NAME
        if not self.runs() or not path.exists():
            return
        await self._run("disable", "--now", UNIT_NAME)
        path.unlink(missing_ok=True)
        await self._run("daemon-reload")

    async def _run(self, *arguments: str) -> None:
        words = " ".join((self.systemctl, *arguments))
        try:
            process = await asyncio.create_subprocess_exec(
                self.systemctl,
                *arguments,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ProgramError(f"cannot run {words}: {error.strerror}") from error
        try:
            async with asyncio.timeout(SYSTEMCTL_SECONDS_MAX):
                _, complaint = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise ProgramError(f"{words} did not end in {SYSTEMCTL_SECONDS_MAX:.0f} s") from error
        if process.returncode != 0:
            raise ProgramError(f"{words} failed: {complaint.decode(errors='replace')[:300]}")
