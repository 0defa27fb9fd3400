"""Prepares the process when any part of the package is imported: refuses Windows, and sets how threads wait."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    raise SystemExit("envtune: error: Windows is not supported. Use Linux or macOS, such as Linux in WSL")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Read when torch is first imported, here and in every process that this one starts. The user's own value is kept. By
default, threads that wait for each other keep their cores busy. With another program on one of two cores, a training
step then took 37 times as long (docs/gpu.md)."""
