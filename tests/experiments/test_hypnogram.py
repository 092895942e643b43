from experiments.hypnogram import UNKNOWN, stages_of
from siamese_jax.recordings.recording import Annotation


def test_stages_are_those_of_each_step_and_the_rest_is_unknown():
    marks = (
        Annotation(0.0, 3.0, "Sleep stage W"),
        Annotation(1.0, 1.0, "Spindle"),
        Annotation(5.0, 9.0, "Sleep stage 4"),
    )
    assert stages_of(marks, 8, seconds=1).tolist() == [0, 0, 0, UNKNOWN, UNKNOWN, 3, 3, 3]
    assert stages_of(marks, 3, seconds=3).tolist() == [0, UNKNOWN, 3]
