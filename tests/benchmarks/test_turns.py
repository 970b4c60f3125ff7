"""Programs that take turns, and processes that wait for orders."""

import pytest


class Scripted:
    """A program whose steps take the given seconds, and which writes down when it ran."""

    def __init__(self, name: str, log: list[str], warm: float, rounds: list[float]) -> None:
        self.name, self.log, self.warm, self.rounds, self.calls = name, log, warm, rounds, 0

    def seconds(self, n_steps: int) -> float:
        self.calls += 1
        if self.calls <= 2:
            return n_steps * self.warm
        self.log.append(f"{self.name}{n_steps}")
        # Before each turn one step that does not count.
        turn, counted = divmod(self.calls - 3, 2)
        return n_steps * self.rounds[turn] if counted else 1000.0


def test_turns_alternate_and_the_middle_round_counts():
    from turns import take_turns

    log: list[str] = []
    runners = {"a": Scripted("a", log, 0.5, [9.0, 1.0, 2.0]), "b": Scripted("b", log, 5.0, [3.0, 8.0, 4.0])}
    assert take_turns(runners, 3, turn_seconds=2.0, rest=0.0) == {"a": 2.0, "b": 4.0}
    # Steps of half a second fill a turn four times; slow ones have one.
    assert log == ["a1", "a4", "b1", "b1"] * 3


def test_a_program_answers_orders_with_huge_pages_and_without_spinning(tmp_path):
    from turns import ENVIRONMENT, Program

    script = tmp_path / "program.py"
    script.write_text(
        "import json, os, sys\n"
        f"print(json.dumps({{name: os.environ.get(name) for name in {[*ENVIRONMENT, 'OWN']}}}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps({'seconds': 0.5 * int(line.split()[1])}), flush=True)\n"
    )
    program = Program([str(script)], {"OWN": "1"})
    assert program.about == {**ENVIRONMENT, "OWN": "1"}
    assert program.seconds(3) == 1.5
    program.close()


def test_a_program_that_ends_is_reported(tmp_path):
    from turns import Program

    script = tmp_path / "program.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match=r"program\.py ended with status 3"):
        Program([str(script)])
