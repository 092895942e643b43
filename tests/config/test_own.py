"""Own objects by name: nothing is imported because a configuration names it."""

import dataclasses
import re
import sys

import pytest

import siamese_jax as sj
from siamese_jax.config.own import IMPORTS, is_own, own_object
from siamese_jax.config.sections import ConverterConfig, ModelConfig, TrainingConfig


def module(tmp_path, monkeypatch, name="my_networks", text="Network = 3\n"):
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return f"{name}:Network"


def test_a_module_is_imported_only_if_the_user_named_it(tmp_path, monkeypatch):
    name = module(tmp_path, monkeypatch)
    monkeypatch.delenv(IMPORTS, raising=False)
    with pytest.raises(ValueError, match="my_networks is not imported. Import it first"):
        own_object(name, "model.name")
    assert "my_networks" not in sys.modules
    monkeypatch.setenv(IMPORTS, "other,my_networks")
    assert own_object(name, "model.name") == 3
    monkeypatch.delenv(IMPORTS)
    assert own_object(name, "model.name") == 3  # imported by now
    monkeypatch.delitem(sys.modules, "my_networks")


def test_what_cannot_be_imported_is_named(tmp_path, monkeypatch):
    name = module(tmp_path, monkeypatch, "my_broken", "import nowhere_to_be_found\n")
    monkeypatch.setenv(IMPORTS, "my_broken,my_absent")
    with pytest.raises(ValueError, match=r"my_broken cannot be imported \(ModuleNotFoundError: .*nowhere.*PYTHONPATH"):
        own_object(name, "model.name")
    with pytest.raises(ValueError, match="my_absent cannot be imported"):
        own_object("my_absent:Network", "model.name")
    with pytest.raises(ValueError, match="pytest has no 'Network'"):
        own_object("pytest:Network", "model.name")
    for name in ("os:system", "os.path:join", "builtins:exec"):
        with pytest.raises(ValueError, match="a module of Python itself is not your own"):
            own_object(name, "converter.kind")


@pytest.mark.parametrize("name", ["", "net", "my net:N", "my_net:", ":N", "my_net:N.M", "../net:N", "a:b:c"])
def test_other_names_are_refused(name):
    assert not is_own(name)
    for make in (
        lambda: ModelConfig(name=name),
        lambda: ConverterConfig(kind=name),
        lambda: TrainingConfig(loss=name),
    ):
        with pytest.raises(ValueError, match=re.escape(repr(name)) if name else "given ''"):
            make()


def test_a_configuration_with_own_names_is_kept_as_json():
    config = dataclasses.replace(
        sj.SMALL,
        tasks=("ied",),
        model=ModelConfig(name="my:Net", pooling="average"),
        converter=ConverterConfig(kind="my:maps"),
        training=TrainingConfig(loss="my:loss"),
    )
    assert sj.Config.from_json(config.to_json()) == config
