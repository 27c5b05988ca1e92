"""The verbs of `stormcast`, one module each.

What `stormcast --help` prints stands here, so that it imports no recipe and nothing that a recipe needs.
"""

HELP = {
    "bench": "measure what preprocessing, reading and training cost against the limit and against peers",
    "doctor": "check this machine: what is missing, and how to repair it",
    "forecast": "roll an ensemble forecast from a trained run and write it as CF NetCDF or Zarr",
    "inspect": "describe a raw file, archive, store, run, package or forecast; check checksums and clocks",
    "plot": "a map, animation or comparison of a raw file, archive, store or forecast",
    "preprocess": "turn raw files into a store; resumable, incremental (a longer period extends it)",
    "runs": "list the runs below a folder, or show one of them",
    "synthesize": "write a synthetic archive: moving weather over Taiwan in the sources' own file formats",
    "train": "train a regression, or the residual diffusion on top of one; repeat the command to resume",
    "variables": "list the variables that are known by name, and what a set of them holds",
    "verify": "score a forecast against a store, with baselines: scores.csv, scores.nc, maps and report.html",
}
KEYS_ONLY = frozenset({"runs", "inspect"})  # verbs whose Config holds every default, also of a group
