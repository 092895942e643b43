import pytest

from data_tools.code_hash import code_hash

MODULE = '''"""What it does."""

LIMIT = 0.5
"""Of what."""


def double(x):
    """Twice as much."""
    return 2 * x  # in one step
'''


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "room" / "module.py"
    path.parent.mkdir()
    path.write_text(MODULE)
    return path


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("What it does", "What else it does", True),
        ("Of what", "Of how much", True),
        ('    """Twice as much."""\n', "", True),
        ("  # in one step", "", True),
        ("return 2 * x", "return (\n        2 * x\n    )", True),
        ("0.5", "0.25", False),
        ("2 * x", "x * 2", False),
        ("return 2 * x", 'return "2 * x"', False),
    ],
)
def test_texts_and_layout_do_not_count_and_code_does(module, tmp_path, old, new, same):
    before = code_hash("room", root=tmp_path)
    assert old in MODULE
    module.write_text(MODULE.replace(old, new))
    assert (code_hash("room", root=tmp_path) == before) is same


def test_only_the_places_named_count(module, tmp_path):
    (tmp_path / "other.py").write_text("x = 1\n")
    (tmp_path / "room" / "data.txt").write_text("no code")
    by_file, by_folder = code_hash("room/module.py", root=tmp_path), code_hash("room", root=tmp_path)
    assert by_file == by_folder != code_hash("room", "other.py", root=tmp_path)
    assert code_hash("other.py", "room", "room/module.py", root=tmp_path) == code_hash(
        "room", "other.py", root=tmp_path
    )
    module.rename(tmp_path / "room" / "renamed.py")
    assert code_hash("room", root=tmp_path) != by_folder


@pytest.mark.parametrize("place", ["gone.py", "gone", "empty", "text.txt"])
def test_a_place_without_a_module_is_refused(tmp_path, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x = 1")
    with pytest.raises(ValueError, match=f"{place} is no Python module and no folder with one"):
        code_hash(place, root=tmp_path)
