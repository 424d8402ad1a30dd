"""Where mailriver keeps things on this machine: data (wanted), cache (can be fetched again)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STACK_FILE = "stack.toml"  # in the data folder: the settings of the stack on this machine


def data() -> Path:
    """`MAILRIVER_DATA`, else the user's data folder."""
    return _place("MAILRIVER_DATA", "XDG_DATA_HOME", ".local/share", "Library/Application Support")


def cache() -> Path:
    """`MAILRIVER_CACHE`, else the user's cache folder."""
    return _place("MAILRIVER_CACHE", "XDG_CACHE_HOME", ".cache", "Library/Caches")


def _place(own: str, xdg: str, linux: str, mac: str) -> Path:
    if named := os.environ.get(own):
        return Path(named).expanduser().absolute()
    if base := os.environ.get(xdg):
        return Path(base) / "mailriver"
    return Path.home() / (mac if sys.platform == "darwin" else linux) / "mailriver"
