"""A process that times one revision: reads orders as JSON lines, answers each with one.

Run by its path, with the revision first on PYTHONPATH. The clock and what it needs are loaded from the files beside
this one, whatever the revision holds: both revisions are timed by one clock, and a revision that had none can be timed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

#: Modules of the harness that time, in the order in which they need each other.
OURS = ("clock", "ceilings", "memory", "contender")


def main() -> None:
    """Answer orders until there are no more; a fault is an answer too."""
    # What a library prints must not reach the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    station: Station | None = None
    for line in sys.stdin:
        try:
            station = station or Station()
            answer = station.obey(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


class Station:
    """The layer that is being timed."""

    def __init__(self) -> None:
        for name in OURS:
            load(name)
        self.clock: Any = sys.modules["equiharness.harness.clock"].Clock()
        self.contender: Any = None
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
        """Build a layer; drops the last one."""
        import torch
        from equiharness.harness import registry

        if threads:
            torch.set_num_threads(threads)
        self.calls.clear()
        adapter = registry.find(implementation)
        adapter.require()
        configuration = registry.Case(case, parameters)
        prepare = sys.modules["equiharness.harness.contender"].prepare
        self.contender = prepare(
            lambda: adapter.build(configuration, device="cpu", dtype=dtype, seed=seed), batch=batch
        )
        origin = getattr(sys.modules["equiharness"], "__file__", "")
        return {"build": self.contender.build_seconds, "differentiable": self.contender.differentiable, "from": origin}

    def do_calibrate(self, *, quantity: str, shortest: float) -> dict[str, Any]:
        """Repetitions for a sample of ``shortest`` seconds."""
        with self._mode(quantity):
            return {"repeats": self.clock.calibrate(self._call(quantity), shortest)}

    def do_sample(self, *, quantity: str, repeats: int) -> dict[str, Any]:
        """Seconds of one call, after an untimed one."""
        with self._mode(quantity):
            call = self._call(quantity)
            call()
            return {"seconds": self.clock.region(call, repeats)[0]}

    def do_memory(self, *, quantity: str) -> dict[str, Any]:
        """Peak bytes of a call; of a whole step for the backward pass."""
        peak = sys.modules["equiharness.harness.memory"].peak_bytes
        with self._mode(quantity):
            call = self.contender.step() if quantity == "backward" else self._call(quantity)
            return {"bytes": peak(call)}

    def _mode(self, quantity: str) -> Any:
        return self.contender.mode(training=quantity != "forward")

    def _call(self, quantity: str) -> Any:
        if quantity not in self.calls:
            makes = {"forward": self.contender.forward, "backward": self.contender.backward}
            self.calls[quantity] = makes[quantity]()
        return self.calls[quantity]


def load(name: str) -> None:
    """Import a module of the harness from the file beside this one, in place of the revision's."""
    full = f"equiharness.harness.{name}"
    spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
