"""Builds an estate (a hub and N sites) from one file and runs guided disasters on it."""

from typing import Final

VERSION: Final = "0.1.0"
