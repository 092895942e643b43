import re

import pytest

from siamese_jax.vocabulary import (
    LEADS_29,
    NEIGHBOURS,
    TEN_TWENTY,
    TWELVE_LEADS,
    channel_kind,
    common_reference,
    standard_name,
    unit_factor,
)


@pytest.mark.parametrize("name", LEADS_29)
def test_standard_names_stand_for_themselves_in_any_dress(name):
    for label in (
        name,
        name.upper(),
        name.lower(),
        f" {name} ",
        f"{name}..",
        f"EEG {name}",
        f"EEG {name}-REF",
    ):
        assert standard_name(label) == name, label


@pytest.mark.parametrize(
    ("label", "name"),
    [
        # the newer names of the 10-20 system, and mastoids
        *(("T7", "T3"), ("T8", "T4"), ("P7", "T5"), ("P8", "T6"), ("M1", "A1"), ("M2", "A2")),
        # dress: EDF+ type words, references, dots, case, duplicates
        *(("EEG FP1-REF", "Fp1"), ("EEG Fp1-LE", "Fp1"), ("EEG O2-AR", "O2"), ("EEG C3-CLE", "C3")),
        *(("EEG Fp1-Ref", "Fp1"), ("EEG Fp1-CPz", "Fp1"), ("EEG T7-Org", "T3"), ("Fz-AVG", "Fz")),
        *(
            ("EEG-Fz", "Fz"),
            ("Fpz.", "FPz"),
            ("C3..", "C3"),
            ("FZ", "Fz"),
            ("eeg cz", "Cz"),
            ("EEG F3-REF-1", "F3"),
        ),
        # Nihon Kohden
        *(("POL Fp1", "Fp1"), ("POL T7", "T3"), ("POL EKG1", "ECG1"), ("POL", None), ("POL DC01", None)),
        # extended 10-10
        *(("EEG FC5", "FC5"), ("po7", "PO7"), ("AFZ", "AFz"), ("OZ", "Oz"), ("FT10", "FT10"), ("cpz", "CPz")),
        # other kinds
        *(("ECG", "ECG1"), ("EKG", "ECG1"), ("EEG EKG1-REF", "ECG1"), ("EKG2", "ECG2"), ("ECG EKG", "ECG1")),
        *(("EMG", "EMG1"), ("EMG Chin", "EMG1"), ("EMG3", "EMG3"), ("EMG EMG4", "EMG4"), ("EMG-REF", "EMG1")),
        *(
            ("EOG left", "EOG1"),
            ("LOC", "EOG1"),
            ("E2", "EOG2"),
            ("EOG1", "EOG1"),
            ("EOG horizontal", "EOGH"),
        ),
        ("Pg1", "PG1"),
    ],
)
def test_labels_met_in_files_give_standard_names(label, name):
    assert standard_name(label) == name


@pytest.mark.parametrize("name", TWELVE_LEADS)
def test_the_leads_of_an_electrocardiogram_stand_for_themselves(name):
    assert standard_name(name) == standard_name(name.lower()) == name
    assert channel_kind(name) == "ecg" and common_reference(name) is None


def test_an_ecg_beside_an_eeg_is_no_lead_of_an_electrocardiogram():
    labels = {"ECG I": "ECG1", "ECGI": "ECG1", "ECG II": "ECG2", "ECG": "ECG1", "ECG1": "ECG1", "ECG2": "ECG2"}
    assert {label: standard_name(label) for label in labels} == labels
    assert [standard_name(label) for label in ("I", "II", "V1", "aVR", "ECG V1", "ECG-LA")] == [None] * 6


@pytest.mark.parametrize(
    ("label", "name"),
    [
        *(("Fp1-F7", "Fp1-F7"), ("FP1-F7", "Fp1-F7"), ("T8-P8-0", "T4-T6"), ("T8-P8-1", "T4-T6")),
        *(("EEG Fpz-Cz", "FPz-Cz"), ("Fp1 - F7", "Fp1-F7"), ("EEG T5-P3", "T5-P3")),
        *(("C3-A1", "C3-A1"), ("C3-M2", "C3-A2"), ("O1-A1A2", "O1-A1A2"), ("F3-(A1+A2)/2", "F3-A1A2")),
        *(("EOG1-A1", "EOG1-A1"), ("LOC-A2", "EOG1-A2"), ("EMG1-EMG2", "EMG1-EMG2")),
    ],
)
def test_a_derivation_is_recognised_and_never_stripped(label, name):
    assert standard_name(label) == name


@pytest.mark.parametrize(
    "label",
    [
        "",
        "-",
        "--0",
        "EEG",
        "EEG(sec)",
        "SaO2",
        "POS",
        "EEG 20-REF",
        "Fp1-Fp1",
        "VNS",
        "hypnogram",
        "C9",
        "Fp3",
    ],
)
def test_other_labels_have_no_standard_name(label):
    assert standard_name(label) is None


def test_no_two_electrodes_of_the_ten_twenty_system_share_a_name():
    assert len({standard_name(name) for name in TEN_TWENTY}) == 19


@pytest.mark.parametrize(
    ("label", "reference"),
    [
        *(("EEG FP1-REF", "REF"), ("EEG Fp1-Ref", "REF"), ("EEG C3-LE", "LE"), ("EEG C3-LE-1", "LE")),
        *(("C3", None), ("C3-A1", None), ("Fp1-F7", None), ("T8-P8-0", None)),
    ],
)
def test_the_common_reference_of_a_label(label, reference):
    assert common_reference(label) == reference


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("uV", 1.0), ("UV", 1.0), ("uv", 1.0), ("\u00b5V", 1.0), ("\u03bcV", 1.0), ("\u00b5v ", 1.0)),
        ("µV".encode().decode("latin-1"), 1.0),  # UTF-8 in a header that is read as Latin-1
        ("μV".encode().decode("latin-1"), 1.0),
        *(("mV", 1e3), ("mv", 1e3), ("MV", 1e3), ("V", 1e6), ("v", 1e6), ("nV", 1e-3)),
        *(("", None), ("%", None), ("degC", None), ("uV/mm", None), ("kV", None), ("-", None), ("V2", None)),
    ],
)
def test_microvolts_in_a_unit(unit, factor):
    assert unit_factor(unit) == factor


def test_near_electrodes_are_of_the_10_10_system_and_alike_on_both_sides():
    def mirror(name):
        return re.sub(r"\d+", lambda digits: str((n := int(digits[0])) + (1 if n % 2 else -1)), name)

    assert NEIGHBOURS.keys() == set(TEN_TWENTY)
    for name, near in NEIGHBOURS.items():
        assert all(standard_name(other) == other and other not in TEN_TWENTY for other in near)
        assert set(NEIGHBOURS[mirror(name)]) == {mirror(other) for other in near}
