"""Prepares the process when any part of the package is imported: refuses Windows, and sets how threads wait."""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    raise SystemExit("envtune: error: Windows is not supported. Use Linux or macOS, such as Linux in WSL")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Read when torch is first imported, here and in every process that this one starts. By default, threads that wait for
each other keep their cores busy, which slows a step 10 to 60 times if another program wants one (docs/gpu.md).
The user's own value is kept."""
