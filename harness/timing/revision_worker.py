"""A process that times one revision. It reads orders as JSON lines and answers each with one JSON line.

The process runs this file by its path, with the revision first on PYTHONPATH. It loads the clock and the modules that
the clock needs from the folder of this file, under a separate package name. So one clock times both revisions. Of the
revision it uses only ``implementations``, ``Case`` and ``build``, which exist in every revision.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

#: Name of the package with the timing modules in this process. The name ``equiharness`` belongs to the revision.
PACKAGE = "equiharness_timing"


def main() -> None:
    """Answer orders until there are no more. An exception is also sent as an answer."""
    # Output that a library prints must not reach the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    worker: TimingWorker | None = None
    for line in sys.stdin:
        try:
            worker = worker or TimingWorker()
            answer = worker.obey(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


class TimingWorker:
    """The timed layer of this process, and its orders."""

    def __init__(self) -> None:
        self.clock: Any = timing("clock").Clock()
        self.timed_layer: Any = None
        self.calls: dict[str, Any] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order."""
        done: dict[str, Any] = getattr(self, f"do_{order.pop('do')}")(**order)
        return done

    def do_build(
        self,
        *,
        implementation: str,
        case: str,
        parameters: dict[str, Any],
        dtype: str,
        seed: int,
        batch: int,
        threads: int,
    ) -> dict[str, Any]:
        """Build a layer, which replaces the last one."""
        import equiharness as eh
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.calls.clear()
        adapters = {adapter.name: adapter for adapter in eh.implementations()}
        if implementation not in adapters:
            raise ValueError(f"this revision has no implementation {implementation}")
        adapter = adapters[implementation]
        adapter.require()
        configuration = case_type()(case, parameters)
        prepare = timing("timed_layer").prepare
        self.timed_layer = prepare(
            lambda: adapter.build(configuration, device="cpu", dtype=dtype, seed=seed), batch=batch
        )
        origin = getattr(sys.modules["equiharness"], "__file__", "")
        return {
            "build": self.timed_layer.build_seconds,
            "differentiable": self.timed_layer.differentiable,
            "from": origin,
        }

    def do_calibrate(self, *, quantity: str, shortest: float) -> dict[str, Any]:
        """Number of calls in a sample of ``shortest`` seconds."""
        with self._mode(quantity):
            return {"repeats": self.clock.calibrate(self._call(quantity), shortest)}

    def do_sample(self, *, quantity: str, repeats: int) -> dict[str, Any]:
        """Seconds of one call, after an untimed call."""
        with self._mode(quantity):
            call = self._call(quantity)
            call()
            return {"seconds": self.clock.region(call, repeats)[0]}

    def do_memory(self, *, quantity: str) -> dict[str, Any]:
        """Peak bytes of a call; for the backward pass, of a whole training step."""
        peak = timing("memory").peak_bytes
        with self._mode(quantity):
            call = self.timed_layer.step() if quantity == "backward" else self._call(quantity)
            return {"bytes": peak(call)}

    def _mode(self, quantity: str) -> Any:
        return self.timed_layer.mode(training=quantity != "forward")

    def _call(self, quantity: str) -> Any:
        if quantity not in self.calls:
            makes = {"forward": self.timed_layer.forward, "backward": self.timed_layer.backward}
            self.calls[quantity] = makes[quantity]()
        return self.calls[quantity]


def case_type() -> Any:
    """``Case`` of the revision. Revisions without ``equiharness.adapters`` export ``Case`` from the top package."""
    try:
        return importlib.import_module("equiharness.adapters").Case
    except ImportError:
        return importlib.import_module("equiharness").Case


def timing(name: str) -> Any:
    """A timing module from the folder of this file."""
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(Path(__file__).resolve().parents[1])]
        sys.modules[PACKAGE] = package
    return importlib.import_module(f"{PACKAGE}.timing.{name}")


if __name__ == "__main__":
    main()
