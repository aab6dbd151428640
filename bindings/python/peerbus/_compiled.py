"""The compiled part of the package: ``accelerator``, or None where it was not built, or PEERBUS_ACCELERATOR is ``0``.

Everything works without it; each message then takes about a microsecond more."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Optional

_ENVIRONMENT = "PEERBUS_ACCELERATOR"


def _load() -> Optional[ModuleType]:
    if os.environ.get(_ENVIRONMENT) == "0":
        return None
    try:
        return importlib.import_module("peerbus._accelerator")
    except ModuleNotFoundError:
        return None


accelerator = _load()
