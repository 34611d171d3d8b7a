from tests.cli.program import Program, visits
from tests.cli.test_run import TO_THE_END, expected_hits, expected_sizes


def test_reset_begins_anew(program: Program) -> None:
    """After a reset the app reads everything again; what it wrote and what it reads stays."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    said = program.run("reset", "visits_app:app", "--yes").stdout
    for part in (
        "positions in 2 partitions",
        "visits-per_page-key_by-repartition",
        "-changelog",
        "state in data/state/visits",
    ):
        assert part in said
    assert not (program.folder / "data" / "state" / "visits").exists()
    assert program.count("visits") == 100
    assert program.values("sizes") == expected_sizes(100)
    program.run(*TO_THE_END)
    assert program.values("hits") == sorted(expected_hits(100) * 2, key=repr)


def test_it_asks_first(program: Program) -> None:
    """Without a yes nothing is changed."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    program.run("reset", "visits_app:app", code=130, stdin=b"n\n")
    assert (program.folder / "data" / "state" / "visits").exists()
    assert "visits 0 records" in program.run(*TO_THE_END).stderr


def test_another_app_of_a_longer_name_is_left_alone(program: Program) -> None:
    """Internal topics of `visits-eu` begin like those of `visits`; a reset or start of one is none of the other's."""
    program.write("eu.py", (program.folder / "visits_app.py").read_text().replace('App("visits")', 'App("visits-eu")'))
    program.send(visits(100))
    program.run("run", "eu:app", "--until-end")
    program.run(*TO_THE_END)
    assert "visits-eu" not in program.run("reset", "visits_app:app", "--yes").stdout
    assert "visits 0 records" in program.run("run", "eu:app", "--until-end").stderr
    assert "there is nothing to forget of visits" in program.run("reset", "visits_app:app", "--yes").stdout
