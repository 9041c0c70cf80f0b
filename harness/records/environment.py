"""The environment of a run as plain data: machine, versions, flags, git state.

This module imports none of the libraries whose versions it reports.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..installed import distribution_version
from .machine import fingerprint

#: Distributions whose versions can change a result.
LIBRARIES = (
    "equiharness",
    "torch",
    "numpy",
    "escnn",
    "e2cnn",
    "e3nn",
    "torch-harmonics",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def capture(libraries: Iterable[str] = LIBRARIES) -> dict[str, Any]:
    """Machine, versions, torch's flags (where torch is loaded) and git state, as JSON data."""
    versions = {name: v for name in libraries if (v := distribution_version(name)) is not None}
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        "torch": _torch_flags(),
        "git": _git(),
    }
    return {**found, "fingerprint": fingerprint(found)}


def source_digest() -> str:
    """Digest of this package's sources. It differs where the sources were changed under the same version number."""
    root, known = Path(__file__).resolve().parents[2], hashlib.sha256()
    for room in ("harness", "kernels", "impls", "suites"):
        for path in sorted(p for p in (root / room).rglob("*") if p.suffix in (".py", ".cu", ".cuh")):
            known.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return known.hexdigest()[:16]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _torch_flags() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "threads": torch.get_num_threads(),
        "default_dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cuda": torch.version.cuda,
        "devices": devices,
    }


def _git() -> dict[str, Any]:
    def output(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": output("rev-parse", "HEAD"), "dirty": bool(output("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {}
