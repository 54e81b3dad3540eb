"""The daemon beside a VMM server: takes signed events, drives the fabric, reads back, reports."""

from typing import Final

PROGRAM: Final = "provider-agent"
VERSION: Final = "0.1.0"
