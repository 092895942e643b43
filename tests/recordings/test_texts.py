"""What annotation texts mean, in the words that files and readers use."""

import pytest

from siamese_jax.recordings.texts import ends_scoring, ied_meaning, is_ied, is_machine_text, sleep_meaning, stage_of

STAGES = {
    "W": "Sleep stage W|W|Wake|WK|WAKE|Waking|awake|Wakefulness|Stage W|Stage Wake|stage 0|SLEEP-S0|Wach|Éveil|Vigilia",
    "N1": "Sleep stage 1|Sleep stage N1|N1|S1|Stage 1|Stage 1 sleep|NREM 1|NREM1|Stage - N1|Stade 1|Schlafstadium N1",
    "N2": "Sleep stage 2|Sleep stage N2|stage n2|SLEEP-S2|NREM 2|NREM2|NREM stage 2|Non-REM 2|Stage 2 sleep|N2 sleep"
    "|N 2|Stage_2|Stade N2|Stadium 2|Fase N2",
    "N3": "Sleep stage 3|Sleep stage 4|Sleep stage N3|S4|N4|NREM 3|Stage 4 sleep|SWS|slow wave sleep|Tiefschlaf",
    "R": "Sleep stage R|R|REM|RE|REM sleep|Stage REM|Sleep stage REM|SLEEP-REM|stage 5|Stage - R|REM-Schlaf"
    "|sommeil paradoxal|sueño REM",
    "asleep": "Sleeping|asleep|sleep|NREM|light sleep",
    "unscored": "Sleep stage ?|?|Movement time|MT|SLEEP-MT|Sleep stage M|Unscored|not scored|Unknown"
    "|Sleep stage unknown"
    "|Stage - No Stage|UNS",
}
NO_STAGES = (
    "||1|2|rt|square|spike|N5|Sleep stage W to N1|Sleep spindle|slow wave|sleep onset|sleep 2|light|Lights on"
    "|Lights off|left|no|M|drowsy|REMs|Movement"
)

IEDS = (
    "ied|IED F7|IED (F7)|IEDs|spike|Spikes|F7 spike|F7-T3 spike|Spike_L|L temporal spike|spikes x3"
    "|vertex spike|Poly spike|polyspike|Poly-spike|polyspike-and-wave|spike-and-wave|spike and wave"
    "|3 Hz spike and wave|spikewave|sharp|sharps|sharp F8|Sharp wave|right sharp wave|T3/T5 sharp wave"
    "|sharp wave, phase reversal F7|sharp-and-slow-wave complex|sharp & slow|SPSW|GSW|generalized spike-wave"
    "|PSW|ED|EDs|epileptiform discharge|Interictal epileptiform discharge|interictal discharge|!|!start|!end"
    "|pointe-onde|polypointes|punta-onda|ondas agudas|steile Welle|epilepsietypische Potentiale"
    "|spikes in sleep|F7 spike seen by tech|IED repetitive bilateral independent sharp wave"
)
DOUBTS = (
    "IED?|spike?|possible spike|sharp wave vs artefact|r/o spike|spike-like artefact|spike artefact?"
    "|spike with muscle artifact|SW|F7 SW|sharp transient|sharp theta|sharp slowing|discharge|F8 discharge"
    "|ED visit|seizure|seizure with spikes|ictal spikes|GPD|LPDs|Triphasic waves|PLEDs|GPED|periodic discharges"
    "|wicket spikes vs sharp waves|vertex sharp waves and left temporal spikes|spike, no clinical correlate"
    "|patient asked the nurse whether the doctor had found spikes in the study of last week"
)
OTHERS = (
    "no spikes|No definite spikes|no clear epileptiform discharges|not a spike|without spikes|spikes not seen"
    "|spikes absent|spike free|keine Spikes|sans pointes|sin puntas|no sharp|non-epileptiform sharp wave"
    "|spike artifact|spike artefact|muscle spike|EMG spikes|ECG spike|electrode pop spike|vertex sharp wave"
    "|vertex wave|V wave|wicket spikes|POSTS|14 and 6 positive spikes|14&6|small sharp spikes|BETS"
    "|benign epileptiform transients of sleep|phantom spike and wave|lambda|mu rhythm|K-complex|spindle"
    "|Sleep spindle|sharply contoured theta|sharply contoured waves|slow wave|Eyes open|HV start|Photic 10 Hz"
    "|arousal|Hypopnea|Periodic leg movement|BAD_artefact|Lights off|LRDA|Rhythmic delta GRDA"
)
NOT_UNDERSTOOD = "|!g|!G1|iedereen|square|rt|F7?|xyz|spiked|ED1|background"


@pytest.mark.parametrize(("meaning", "text"), [(k, text) for k, texts in STAGES.items() for text in texts.split("|")])
def test_stages_in_the_words_of_both_manuals_and_of_data_sets(meaning: str, text: str) -> None:
    assert sleep_meaning(text) == sleep_meaning(f" {text.upper()} ") == meaning
    assert stage_of(text) == (None if meaning in ("asleep", "unscored") else meaning)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("Stage 2 sleep|2", "N2"), ("REM sleep|5", "R"), ("Wake|0", "W"), ("Unscored|9", "unscored")],
)
def test_the_code_after_a_stage_of_nsrr_changes_nothing(text: str, meaning: str) -> None:
    assert sleep_meaning(text) == meaning


@pytest.mark.parametrize("text", NO_STAGES.split("|"))
def test_other_texts_are_no_stage(text: str) -> None:
    assert sleep_meaning(text) is None


@pytest.mark.parametrize(
    ("meaning", "text"),
    [
        *(("ied", text) for text in IEDS.split("|")),
        *(("doubt", text) for text in DOUBTS.split("|")),
        *(("other", text) for text in OTHERS.split("|")),
        *((None, text) for text in NOT_UNDERSTOOD.split("|")),
    ],
)
def test_discharges_doubts_look_alikes_and_denials(meaning: str | None, text: str) -> None:
    assert ied_meaning(text) == ied_meaning(f" {text.upper()} ") == meaning
    assert is_ied(text) == (meaning == "ied")


def test_lights_on_ends_the_scoring_and_lights_off_does_not() -> None:
    assert ends_scoring("Lights on") and ends_scoring("lights-on 06:30") and ends_scoring("Recording ends")
    assert not ends_scoring("Lights off") and not ends_scoring("Eyes open")


def test_what_detect_wrote_is_known_by_its_text() -> None:
    assert is_machine_text("IED p=0.93") and is_machine_text(" IED p=1.00 ")
    assert not is_machine_text("IED") and not is_machine_text("IED p=0.93 agreed")
