"""Where is each layer of ours, escnn and e2cnn equivariant? Measures validity maps, finds their laws, draws them.

    python benchmarks/validity_map.py OUT [LAYER ...]

Writes OUT/validity.json, OUT/validity.png and OUT/validity.md; LAYER is library.Name, all of them if none is given.
"""

import sys
import time
import warnings
from pathlib import Path

import torch
from equiharness.harness.records.validity import write_maps
from equiharness.impls.validity import layers
from equiharness.reports.validity import draw_maps, laws_table
from equiharness.suites.survey.validity import sweep, validity_map


def main():
    out, wanted = Path(sys.argv[1]), sys.argv[2:]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    maps = []
    for layer in layers():
        if wanted and f"{layer.library}.{layer.name}" not in wanted:
            continue
        start = time.perf_counter()
        maps.append(validity_map(layer.name, layer.library, layer.build, sweep(**layer.axes)))
        law = maps[-1].law
        seconds = time.perf_counter() - start
        print(f"{layer.library}.{layer.name}: {law.text}, {law.agree} of {law.of}, {seconds:.0f} s", flush=True)
        write_maps(out / "validity.json", maps)
    draw_maps(maps, out / "validity.png")
    (out / "validity.md").write_text(laws_table(maps), encoding="utf-8")


if __name__ == "__main__":
    main()
