from tests.cli.program import Program


def test_demo(program: Program) -> None:
    """The demo ends by itself, shows the last top ten and the match, and says what to try next, which works."""
    out = program.run("demo", "--keep", "match").stdout
    assert "#harbourcup" in out
    assert "GOAL! Vandrel for Kestria, 0:1" in out
    assert "\x1b" not in out
    [last] = program.tail("trends", "--broker", "local://match", "--from", "-1")
    assert last["value"]["top"][0] == {"key": "harbourcup", "value": 3}
    assert "streamproc tail trends --broker local://match --from -1" in out
    assert "there is a log in match already" in program.run("demo", "--keep", "match", code=1).stderr


def test_nothing_is_left_behind(program: Program) -> None:
    """Without --keep no folder remains, neither here nor among the temporary ones."""
    program.environment["TMPDIR"] = str(program.folder / "tmp")
    (program.folder / "tmp").mkdir()
    before = sorted(path.name for path in program.folder.iterdir())
    assert "#harbourcup" in program.run("demo").stdout
    assert sorted(path.name for path in program.folder.iterdir() if path.name != "__pycache__") == before
    assert not list((program.folder / "tmp").iterdir())
