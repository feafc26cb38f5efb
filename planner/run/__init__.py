"""The bundled runtime: executes a plan with torch workers that talk over TCP."""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # Threads of torch that wait for work spin by default for some 20 ms, which starves every other
    # process of a full host. Half a millisecond bridges the gaps between products; sleeping at once
    # would make small steps take twice as long. The library reads this when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
