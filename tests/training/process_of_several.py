"""One of several processes that train together: run by the tests as a program, with a folder as its argument.

The folder holds `config0.json` and so on (each process's configuration) and `options.json` (what else to do).
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    folder, index = Path(sys.argv[1]), int(sys.argv[2])
    options = json.loads((folder / "options.json").read_text())
    quick = "--xla_backend_optimization_level=0"  # to compile
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={options['devices']} {quick}"

    from siamese_jax.training.processes import join, leave

    join(f"127.0.0.1:{options['port']}", index, options["processes"], lost_after_seconds=options["lost_after"])
    from siamese_jax.config.experiment import Config
    from siamese_jax.shards.schema import open_shards
    from siamese_jax.training.loop import train
    from siamese_jax.training.parallel import choose_devices

    config = Config.from_json((folder / f"config{index}.json").read_text())
    training, validation = (tuple(open_shards(Path(options["shards"]) / s)) for s in ("train", "validation"))

    def on_step(step: int, line: dict[str, float]) -> None:
        print("step", step, flush=True)

    outcome = train(
        config,
        training,
        validation,
        folder / "run",
        devices=choose_devices(None),
        stop_at=options["stop_at"],
        on_step=on_step,
    )
    print("ended", outcome.step, outcome.finished, flush=True)
    leave()


if __name__ == "__main__":
    main()
