"""The picture of the README: what the package's model finds in a simulated recording.

    python -m experiments.overview

The model did not learn from this recording: its simulated patients came from another seed.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import tyro
from matplotlib import pyplot as plt
from PIL import Image

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments.figures import write_figure
from experiments.picture import draw_night, draw_page, read_rows
from siamese_jax.cli import console
from siamese_jax.cli import main as cli
from siamese_jax.recordings.edf import read_recording
from siamese_jax.vocabulary import TEN_TWENTY

PATIENTS, MINUTES, SEED = 3, 30.0, 2026


def main(out: Path = Path("docs/images/overview.png"), *, patient: int = 3) -> int:
    """Simulate patients, detect in one of them with the package's model, and draw what was found.

    Args:
        out: The PNG to write.
        patient: Number of the patient who is drawn.
    """
    with TemporaryDirectory() as folder:
        recordings, detection = Path(folder) / "recordings", Path(folder) / "detection"
        list(simulate_cohort(recordings, SimulationConfig(minutes=MINUTES), patients=PATIENTS, seed=SEED))
        path = recordings / f"SIM{patient:04}.edf"
        code = cli.detect((path,), out=detection)
        if code != console.OK:
            return code
        recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=200.0)
        peaks = [float(row["peak"]) for row in read_rows(detection / f"{path.stem}_events.csv")]
        hypnogram = read_rows(detection / f"{path.stem}_hypnogram.csv")
        figure = plt.figure(figsize=(11, 9), layout="constrained")
        page, night = figure.subplots(2, 1, height_ratios=(5, 1.6))
        draw_page(page, recording, peaks)
        draw_night(night, recording, hypnogram, peaks)
        figure.suptitle("SIMULATED recording: what siamese-jax detect finds with the model of the package")
        write_figure(figure, out)
    coloured = Image.open(out).convert("RGB")
    coloured.quantize(64, Image.Quantize.FASTOCTREE).save(out, optimize=True)  # a third of the bytes
    print(f"wrote {out}")
    return console.OK


if __name__ == "__main__":
    console.run(lambda: tyro.cli(main))
