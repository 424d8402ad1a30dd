"""Where a command finds its installation: the configuration named, else the stack that `mailriver up` runs on this
machine.
"""

from __future__ import annotations

from pipeline import places, settings
from pipeline.cli.output import Failure
from pipeline.settings import Settings, SettingsError

STACK_FILE = "stack.toml"  # in the data folder, written by the embedded stack


def loaded() -> Settings:
    """The settings, or Failure with their error."""
    try:
        named = settings.named_file()
        stack = places.data() / STACK_FILE
        return settings.load(named or (stack if stack.exists() else None))
    except SettingsError as error:
        raise Failure(str(error), status=2) from None
