"""Merkle nodes: the library beside @chainsafe/hashtree, on one core

A node is SHA-256 of 64 bytes. Runs of few nodes cost the peer its way from JavaScript to C; long runs do not.
"""

import pathlib
import shutil

import servers

HASHTREE = pathlib.Path(__file__).parent / "hashtree"


def run(bench):
    if shutil.which("node") is None or not (HASHTREE / "node_modules").is_dir():
        raise servers.Missing("hashtree is not installed (npm ci --prefix tests/bench/hashtree)")
    core = bench.generator_core
    table = bench.table(f"nodes: one merkle node, both on core {core}", "ns", ratio="speed")
    for count in bench.size((16, 128, 4096, 262144), (128,)):
        row = table.row(f"runs of {count}", goal=(">=", 1.0))
        for _ in range(bench.rounds):
            ours = bench.program("hash_speed", "nodes", count, bench.seconds, core=core)
            row.add("capstore", ours["ns_per_node"])
            peer = bench.output([*servers.pinned(core), "node", str(HASHTREE / "nodes.mjs"), str(count),
                                 str(bench.seconds)])
            row.add("hashtree", peer["ns_per_node"])
