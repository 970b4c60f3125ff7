import logging

from elmo_jax.data import progress


def test_without_a_terminal_a_line_is_logged_now_and_then(monkeypatch, caplog, capsys):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), progress.Progress("encoding", 100) as bar:
        for _ in range(8):
            bar.advance(10)
    assert caplog.messages == ["encoding: 30 %, 70 s left", "encoding: 60 %, 40 s left"]
    assert capsys.readouterr().err == ""


def test_not_shown_is_silent(monkeypatch, caplog, capsys):
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    with caplog.at_level(logging.INFO), progress.Progress("encoding", 100, shown=False) as bar:
        bar.advance(100)
    assert not caplog.messages
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    with progress.Progress("encoding", 100) as bar:
        bar.advance(100)
    assert "encoding: 100%" in capsys.readouterr().err
