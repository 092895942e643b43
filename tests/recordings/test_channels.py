import numpy as np
import pytest

from siamese_jax.recordings.channels import spreads_of
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import recording_from_array
from siamese_jax.vocabulary import TEN_TWENTY, standard_name
from tests.recordings.edf_bytes import Signal, noise, save, whole


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1), ("nV", 1e-3), ("mV", 1e3), ("V", 1e6), ("µV", 1)])
def test_units_become_microvolts(tmp_path, unit, factor):
    physical = (f"{-300 / factor:.5g}", f"{300 / factor:.5g}")
    path = save(tmp_path, [Signal("C3", noise(3, 200) * 20, unit=unit, physical=physical)])
    signal = whole(read_recording(path, ch_names=("C3",), sfreq=200))
    np.testing.assert_allclose(signal[:, 0], (noise(3, 200) * 20).ravel() * 600 / 65535, atol=0.01)


def test_megavolts_are_millivolts_with_a_warning(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(3, 200), unit="MV", physical=("-3.2768", "3.2767"))])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0], noise(3, 200).ravel() / 10, atol=1e-3)
    assert any("MV" in warning and "mV" in warning for warning in recording.report.warnings)


def test_a_unit_is_judged_only_for_a_channel_that_is_needed(tmp_path):
    signals = [
        Signal("C3", noise(3, 200)),
        Signal("C4", noise(3, 200), unit="degC"),
        Signal("SaO2", noise(3, 1)),
    ]
    path = save(tmp_path, signals)
    report = read_recording(path, ch_names=("C3",), sfreq=200).report
    assert "degC" in report.ignored["C4"] and "SaO2" in report.ignored and not report.warnings
    with pytest.raises(ValueError, match=r"a\.edf: C4 .*'degC'.*--units C4=uV"):
        read_recording(path, ch_names=("C3", "C4"), sfreq=200)


@pytest.mark.parametrize("key", ["EEG C3-LE", "C3", "*"])
def test_given_units_override_the_header(tmp_path, key):
    path = save(tmp_path, [Signal("EEG C3-LE", noise(3, 200), unit="mV")])
    signal = whole(read_recording(path, ch_names=("C3",), sfreq=200, units={key: "uV"}))
    np.testing.assert_allclose(signal[:, 0], noise(3, 200).ravel() / 10, atol=1e-4)


def test_a_given_unit_must_be_known(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(3, 200))])
    with pytest.raises(ValueError, match="parsec"):
        read_recording(path, ch_names=("C3",), sfreq=200, units={"C3": "parsec"})


@pytest.mark.parametrize(("unit", "gain", "factor"), [("nV", 1e-3, "1000"), ("mV", 1e3, "0.001"), ("V", 1e6, "1e-06")])
def test_an_implausible_amplitude_is_said_with_its_factor_and_never_scaled(tmp_path, unit, gain, factor):
    path = save(tmp_path, [Signal("C3", noise(9, 200), unit=unit)])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    (warning,) = recording.report.warnings
    assert "C3" in warning and f"times {factor} " in warning
    np.testing.assert_allclose(whole(recording).std(), 30 * gain, rtol=0.1)


def test_plausible_amplitude_is_judged_on_eeg_only(tmp_path):
    signals = [Signal("C3", noise(9, 200)), Signal("ECG", noise(9, 200) * 100)]
    assert not read_recording(save(tmp_path, signals), ch_names=("C3", "ECG1"), sfreq=200).report.warnings


def test_the_report_says_what_was_used_renamed_missed_and_ignored(tmp_path):
    labels = ("EEG FP1-REF", "EEG T7-REF", "Fp1-F7", "SaO2")
    path = save(tmp_path, [Signal(label, noise(3, 200, i)) for i, label in enumerate(labels)])
    recording = read_recording(path, ch_names=("T3", "Fp1", "F7"), sfreq=200)
    assert recording.report.used == {"T3": "EEG T7-REF", "Fp1": "EEG FP1-REF"}
    assert recording.report.renamed == {"EEG T7-REF": "T3"}
    assert recording.report.missing == ("F7",)
    assert set(recording.report.ignored) == {"Fp1-F7", "SaO2"}
    np.testing.assert_allclose(whole(recording)[:, 1] * 10, noise(3, 200, 0).ravel(), atol=0.01)


def test_a_bipolar_channel_is_never_taken_for_an_electrode(tmp_path):
    path = save(tmp_path, [Signal("FP1-F7", noise(3, 200)), Signal("T8-P8-0", noise(3, 200))])
    with pytest.raises(ValueError, match=r"a\.edf .*FP1-F7, T8-P8-0"):
        read_recording(path, ch_names=TEN_TWENTY, sfreq=200)


def test_an_ear_derivation_stands_for_its_electrode_with_one_warning(tmp_path):
    labels = ("C3-A2", "C4-M1", "O1-A2", "O1")
    path = save(tmp_path, [Signal(label, noise(3, 200, i)) for i, label in enumerate(labels)])
    recording = read_recording(path, ch_names=("C3", "C4", "O1"), sfreq=200)
    assert recording.report.used == {"C3": "C3-A2", "C4": "C4-M1", "O1": "O1"}
    (warning,) = recording.report.warnings
    assert "C3 from C3-A2, C4 from C4-M1" in warning and "ear" in warning


def test_mixed_common_references_are_refused_among_the_channels_used(tmp_path):
    signals = [Signal("EEG C3-REF", noise(3, 200)), Signal("EEG C4-LE", noise(3, 200))]
    path = save(tmp_path, signals)
    with pytest.raises(ValueError, match=r"a\.edf mixes common references.*C3-REF, EEG C4-LE"):
        read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    assert read_recording(path, ch_names=("C3", "O1"), sfreq=200).present.tolist() == [True, False]


def test_of_two_channels_with_one_label_the_first_is_used_and_said(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(3, 200, 5)), Signal("C3", noise(3, 200, 6))])
    recording = read_recording(path, ch_names=("C3",), sfreq=200)
    np.testing.assert_allclose(whole(recording)[:, 0] * 10, noise(3, 200, 5).ravel(), atol=0.01)
    assert any("more than once" in w for w in recording.report.warnings)
    assert "C3 (#2)" in recording.report.ignored


def test_slow_eeg_is_refused_and_other_channels_are_not(tmp_path):
    signals = [Signal("C3", noise(3, 99)), Signal("C4", noise(3, 100)), Signal("EMG", noise(3, 50))]
    path = save(tmp_path, signals)
    recording = read_recording(path, ch_names=("C3", "C4", "EMG1"), sfreq=200)
    assert recording.present.tolist() == [False, True, True]
    assert "99 Hz is too slow" in recording.report.ignored["C3"]
    with pytest.raises(ValueError, match=r"a\.edf .*99 Hz is too slow: IED analysis needs at least 100 Hz"):
        read_recording(path, ch_names=("C3", "EMG1"), sfreq=200)


def test_a_constant_channel_is_absent_and_said(tmp_path):
    path = save(tmp_path, [Signal("C3", noise(40, 200)), Signal("C4", np.full((40, 200), 7))])
    recording = read_recording(path, ch_names=("C3", "C4"), sfreq=200)
    assert recording.present.tolist() == [True, False]
    assert "C4" in recording.report.missing and recording.report.ignored["C4"] == "constant"
    assert any("constant" in w and "C4" in w for w in recording.report.warnings)
    assert not whole(recording)[:, 1].any()
    with pytest.raises(ValueError, match=r"a\.edf has none of the electrodes wanted \(C4\).*; C4 \(constant\)$"):
        read_recording(path, ch_names=("C4",), sfreq=200)


def electrocardiogram(scale: float = 1.0) -> np.ndarray:
    """R waves of 1 mV each second and noise of 30 uV in two leads, and a lead that is all but flat."""
    beats = 1000 * np.exp(-(((np.arange(6000) / 100 % 1 - 0.5) / 0.02) ** 2))
    noise = np.random.default_rng(0).normal(0, 1, (6000, 3))
    return scale * (beats[:, None] * [1, -1, 0] + noise * [30, 30, 0.1])


@pytest.mark.parametrize(
    ("scale", "said"),
    [(1.0, None), (1e-3, "times 1000 it would be"), (1e3, "times 0.001 it would be"), (1e6, "times 1e-06 it would be")],
)
def test_an_array_without_eeg_is_an_electrocardiogram_judged_by_its_leads_median(scale, said):
    leads = ("ECG-I", "ECG-aVR", "ECG-V1")
    recording = recording_from_array(
        electrocardiogram(scale), sfreq=100, ch_names=leads, target_ch_names=(*leads, "ECG-V2"), target_sfreq=100
    )
    assert recording.present.tolist() == [True, True, True, False]
    assert recording.report.missing == ("ECG-V2",)
    warnings = recording.report.warnings
    assert len(warnings) == (said is not None)
    assert said is None or ("is not that of an ECG" in warnings[0] and said in warnings[0])


def test_an_ecg_beside_an_eeg_is_not_judged():
    eeg = 30 * np.random.default_rng(0).standard_normal((6000, 1))
    array = np.concatenate([eeg, electrocardiogram(1e6)], axis=1)
    names = ("C3", "ECG1", "ECG2", "EMG1")
    recording = recording_from_array(array, sfreq=100, ch_names=names, target_ch_names=names, target_sfreq=100)
    assert recording.present.all() and not recording.report.warnings


def test_leads_that_are_all_constant_are_no_electrocardiogram():
    leads = ("ECG-I", "ECG-II")
    with pytest.raises(ValueError, match=r"the array has none .* it has ECG-I, ECG-II \(constant\)"):
        recording_from_array(np.ones((100, 2)), sfreq=100, ch_names=leads, target_ch_names=leads, target_sfreq=100)


def test_an_array_in_volts_is_doubted():
    volts = 30e-6 * np.random.default_rng(0).standard_normal((2000, 1))
    recording = recording_from_array(volts, sfreq=200, ch_names=("C3",), target_ch_names=("C3",), target_sfreq=200)
    assert "times 1e+06" in recording.report.warnings[0]


# --- the one channel of several that is of use -----------------------------------------------------------------

FLAT = np.zeros((60, 128), int)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (Signal("F7", FLAT), Signal("F7", noise(60, 128, 7)), "constant"),
        (Signal("F7", FLAT), Signal("EEG F7-REF", noise(60, 128, 7)), "constant"),
        (Signal("F7", FLAT), Signal("F7-A2", noise(60, 128, 7)), "constant"),
        (Signal("F7", noise(60, 128), "kOhm"), Signal("F7", noise(60, 128, 7)), "'kOhm' is no known unit of voltage"),
        (Signal("F7", noise(60, 99)), Signal("F7", noise(60, 128, 7)), "99 Hz is too slow"),
        (Signal("F7", noise(60, 128), range=("5", "5")), Signal("F7", noise(60, 128, 7)), "calibrated"),
    ],
)
def test_the_first_channel_that_is_of_use_serves_and_what_was_passed_over_is_said(tmp_path, first, second, reason):
    path = save(tmp_path, [first, second, Signal("F8", noise(60, 128))])
    recording = read_recording(path, ch_names=("F7", "F8"), sfreq=128)
    np.testing.assert_allclose(whole(recording)[:, 0] * 10, noise(60, 128, 7).ravel(), atol=0.01)
    assert recording.present.all() and not recording.report.missing
    key = f"{second.label} (#2)" if second.label == first.label else second.label
    said = [w for w in recording.report.warnings if w.startswith(f"F7 is taken from {key}, not from F7 (")]
    assert len(said) == 1 and reason in said[0] and reason in recording.report.ignored["F7"]


def test_a_unit_that_is_given_makes_the_first_channel_one_of_use(tmp_path):
    path = save(tmp_path, [Signal("F7", noise(60, 128), "kOhm"), Signal("F7", noise(60, 128, 7))])
    recording = read_recording(path, ch_names=("F7",), sfreq=128, units={"f7": "uV"})
    np.testing.assert_allclose(whole(recording)[:, 0] * 10, noise(60, 128).ravel(), atol=0.01)


def test_a_channel_may_serve_two_names(tmp_path):
    path = save(tmp_path, [Signal("C3-A2", noise(9, 128))])
    signal = whole(read_recording(path, ch_names=("C3", "C3-M2"), sfreq=128))
    assert signal.any() and np.array_equal(signal[:, 0], signal[:, 1])


@pytest.mark.parametrize(("first", "last", "n_records"), [(106, 109, 200), (290, 330, 600)])
def test_a_channel_that_is_live_for_a_while_is_there(tmp_path, first, last, n_records):
    """Twenty stretches of 10 s are looked at: all of 200 s, and 10 s of every half minute of 10 minutes."""
    digital = np.zeros((n_records, 100), int)
    digital[first:last] = noise(last - first, 100)
    path = save(tmp_path, [Signal("C3", noise(n_records, 100)), Signal("C4", digital)])
    assert read_recording(path, ch_names=("C3", "C4"), sfreq=100).present.all()


# --- one common reference ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["EEG {}-{}", "{} - {}", "{}-{}-0", "POL {}-{}"])
@pytest.mark.parametrize("reference", ["Pz", "Cz", "FCz", "Fpz", "Oz", "T8"])
def test_one_scalp_electrode_may_be_the_common_reference(tmp_path, form, reference):
    names = [name for name in ("Fp1", "C3", "Pz", "Cz", "T4", "O2") if name != standard_name(reference)]
    signals = [Signal(form.format(name, reference)[:16], noise(9, 128, i)) for i, name in enumerate(names)]
    path = save(tmp_path, [*signals, Signal("A1", noise(9, 128)), Signal("ECG", noise(9, 128))])
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=128)
    assert [name for name, there in zip(TEN_TWENTY, recording.present, strict=True) if there] == [
        name for name in TEN_TWENTY if name in names
    ]
    for i, name in enumerate(names):
        found = whole(recording)[:, TEN_TWENTY.index(name)]
        np.testing.assert_allclose(found * 10, noise(9, 128, i).ravel(), atol=0.01)
    (said,) = recording.report.warnings
    assert f"recorded against {standard_name(reference)}" in said and f"{standard_name(reference)} itself is ab" in said


def test_the_reference_electrodes_own_channel_is_not_used(tmp_path):
    signals = [Signal(label, noise(9, 128, i)) for i, label in enumerate(("Fp1-Cz", "O2-Cz", "Cz"))]
    report = read_recording(save(tmp_path, signals), ch_names=("Fp1", "O2", "Cz"), sfreq=128).report
    assert report.missing == ("Cz",) and report.ignored["Cz"] == "the reference of the other channels"


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("Fp1-F7", "F7-T3", "T3-T5"), "bipolar"),
        (("Fpz-Cz", "Pz-Oz"), "bipolar"),  # Sleep-EDF
        (("C3-Cz",), "not asked for"),  # one channel: a reference or a bipolar derivation
        (("C3-Cz", "C3-Cz"), "not asked for"),
    ],
)
def test_channels_are_called_bipolar_where_they_are(tmp_path, labels, reason):
    path = save(tmp_path, [Signal(label, noise(9, 128, i)) for i, label in enumerate(labels)])
    with pytest.raises(ValueError, match="none of the electrodes wanted") as caught:
        read_recording(path, ch_names=("Fp1", "C3"), sfreq=128)
    assert ("bipolar" in str(caught.value)) is (reason == "bipolar") and reason in str(caught.value)
    asked = read_recording(path, ch_names=(labels[0],), sfreq=128)
    assert asked.present.all() and not any("against" in w for w in asked.report.warnings)


@pytest.mark.parametrize("other", ["P3", "EEG P3-REF", "P3-A2", "P3-O1"])
def test_electrodes_against_something_else_are_not_mixed_with_those_against_one_electrode(tmp_path, other):
    labels = ("Fp1-Cz", "O2-Cz", other)
    path = save(tmp_path, [Signal(label, noise(9, 128, i)) for i, label in enumerate(labels)])
    if other == "P3-O1":
        with pytest.raises(ValueError, match="bipolar"):
            read_recording(path, ch_names=("Fp1", "O2", "P3"), sfreq=128)
    else:
        assert read_recording(path, ch_names=("Fp1", "O2", "P3"), sfreq=128).report.missing == ("Fp1", "O2")


# --- units that are given --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["Fp9", "EEG C3", "SaO3", "o1"])
def test_a_unit_for_a_channel_that_is_not_there_is_refused_with_the_channels(tmp_path, key):
    path = save(tmp_path, [Signal("EEG C4-LE", noise(3, 200)), Signal("SaO2", noise(3, 1), "%")])
    with pytest.raises(ValueError, match=rf"a\.edf: a unit is given for {key} \({key}=mV\).* EEG C4-LE, SaO2$"):
        read_recording(path, ch_names=("C4",), sfreq=200, units={key: "mV"})


def test_a_unit_for_an_electrode_that_this_file_lacks_is_said(tmp_path):
    """Of many files that are read alike, one may lack an electrode."""
    path = save(tmp_path, [Signal("C4", noise(3, 200))])
    report = read_recording(path, ch_names=("C3", "C4"), sfreq=200, units={"c3": "mV"}).report
    assert report.warnings == ("there is no C3, for which the unit mV is given",)


@pytest.mark.parametrize("key", ["fp1", "FP1", "eeg fp1-le", "EEG Fp1", "POL Fp1"])
def test_units_are_given_by_label_or_name_in_any_letter_case(tmp_path, key):
    path = save(tmp_path, [Signal("EEG FP1-LE", noise(3, 200)), Signal("C3", noise(3, 200))])
    signal = whole(read_recording(path, ch_names=("Fp1", "C3"), sfreq=200, units={key: "nV"}))
    np.testing.assert_allclose(signal[:, 0] * 1000, signal[:, 1], rtol=1e-5)


def test_a_label_counts_more_than_a_name_and_that_more_than_all(tmp_path):
    labels = ("EEG C3-LE", "EEG C4-LE", "EEG O1-LE", "EEG T7-LE")
    path = save(tmp_path, [Signal(label, noise(3, 200)) for label in labels])
    units = {"eeg c3-le": "V", "C3": "mV", "*": "nV", "C4": "mV", "T3": "uV"}
    signal = whole(read_recording(path, ch_names=("C3", "C4", "O1", "T3"), sfreq=200, units=units))
    np.testing.assert_allclose(signal.std(axis=0) / signal[:, 3].std(), [1e6, 1e3, 1e-3, 1], rtol=1e-4)


# --- amplitude -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "spread", "is_plausible"),
    [
        *((("C3",), spread, ok) for spread, ok in ((1.9, False), (2.1, True), (490, True), (510, False))),
        *((("ECG-I",), spread, ok) for spread, ok in ((1.9, False), (2.1, True), (4900, True), (5100, False))),
    ],
)
def test_what_is_plausible(labels, spread, is_plausible):
    """2 to 500 uV for EEG and 2 to 5000 uV for ECG; robust deviations."""
    signal = np.tile(np.linspace(-1, 1, 1000), 20)[:, None] * spread / (1.4826 * 0.5)  # half deviates by half or less
    recording = recording_from_array(signal, sfreq=200, ch_names=labels, target_ch_names=labels, target_sfreq=200)
    assert bool(recording.report.warnings) is not is_plausible


def test_the_spread_is_the_median_over_stretches_that_are_not_constant():
    rng = np.random.default_rng(0)
    stretches = [np.zeros(1000), *(scale * rng.standard_normal(1000) for scale in (3, 30, 3000))]
    spreads = spreads_of({5: stretch.astype(np.float32), 7: np.ones(3, np.float32)} for stretch in stretches)
    np.testing.assert_allclose(spreads[5], [3, 30, 3000], rtol=0.1)
    assert spreads[7] == []


HEADSET = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")


def test_a_near_electrode_stands_in_for_a_missing_one_when_asked(tmp_path):
    path = save(tmp_path, [Signal(name, noise(3, 200) * (i + 1)) for i, name in enumerate(HEADSET)])
    strict = read_recording(path, ch_names=TEN_TWENTY, sfreq=200)
    assert strict.report.ignored["AF3"] == "not asked for" and "Fp1" in strict.report.missing
    near = read_recording(path, ch_names=TEN_TWENTY, sfreq=200, nearest=True)
    stand_ins = {"Fp1": "AF3", "Fp2": "AF4", "C3": "FC5", "C4": "FC6"}
    assert {name: near.report.used[name] for name in stand_ins} == stand_ins
    assert near.report.used.keys() - stand_ins.keys() == strict.report.used.keys()
    assert near.report.missing == ("P3", "P4", "Fz", "Cz", "Pz") and not near.report.ignored
    (said,) = [text for text in near.report.warnings if "stands in" in text]
    assert all(f"{label} for {name}" in said for name, label in stand_ins.items())
    for name, label in stand_ins.items():
        np.testing.assert_array_equal(
            whole(near)[:, TEN_TWENTY.index(name)],
            whole(read_recording(path, ch_names=(label,), sfreq=200))[:, 0],
        )


def test_an_electrode_stands_in_once_and_never_for_one_that_is_there(tmp_path):
    path = save(tmp_path, [Signal(name, noise(3, 200)) for name in ("TP7", "C5", "F3", "F1")])
    report = read_recording(path, ch_names=("T3", "T5", "F3", "C3"), sfreq=200, nearest=True).report
    assert report.used == {"T3": "TP7", "F3": "F3", "C3": "C5"} and report.missing == ("T5",)
    flat = [Signal("Fp1", np.zeros((3, 200))), Signal("AF7-A2", noise(3, 200)), Signal("C3-A2", noise(3, 200))]
    report = read_recording(save(tmp_path, flat), ch_names=("Fp1", "C3"), sfreq=200, nearest=True).report
    assert report.used == {"Fp1": "AF7-A2", "C3": "C3-A2"}
    assert any("Fp1 is taken from AF7-A2, not from Fp1 (constant)" in text for text in report.warnings)
