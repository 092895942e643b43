import subprocess

from experiments.provenance import commit


def git(*words):
    subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True, capture_output=True)


def test_the_commit_tells_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    (tmp_path / "a").write_text("1")
    git("init")
    git("add", "a")
    git("commit", "-m", "one")
    clean = commit()
    assert len(clean) >= 7
    (tmp_path / "a").write_text("2")
    assert commit() == f"{clean}-dirty"
