"""`elmo plot`: the picture has every run, what it draws is what was measured, and files are not lost to it."""

import itertools
import struct

import numpy as np
import pytest

from elmo_jax import cli
from elmo_jax.analysis import curves, panels, plots
from tests.analysis.test_curves import make_run


def perplexities(n, start, factor):
    return [start * factor**k for k in range(n)]


def runs_of(folder, *names, n=6, n_eval=2):
    """Runs whose training perplexity falls by a tenth and whose held-out perplexity halves at each line."""
    paths = []
    for k, name in enumerate(names):
        train = enumerate(perplexities(n, 900.0 + k, 0.9), start=1)
        lines = [
            {
                "step": 10 * i,
                "train/perplexity": value,
                "train/learning_rate": 0.2 * 0.001**k,
                "train/tokens": 400 * i,
                "speed/tokens_per_second": 100.0 + i,
            }
            for i, value in train
        ]
        evaluations = enumerate(perplexities(n_eval, 800.0 + k, 0.5), start=1)
        lines += [{"step": 20 * i, "eval/perplexity": value} for i, value in evaluations]
        paths.append(make_run(folder / name, lines))
    return paths


@pytest.fixture
def elmo_plot(tmp_path, monkeypatch, capsys):
    """Runs `elmo plot` in ``tmp_path`` and gives its exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["plot", *map(str, arguments)])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


def test_png_and_svg_show_every_run_by_name_and_its_last_value(tmp_path, elmo_plot):
    paths = runs_of(tmp_path / "runs", "small", "_a$b$ & c")
    status, out, err = elmo_plot(*paths, "--title", "Two of <them>")
    assert (status, err) == (0, "")
    assert out.startswith("learning_curves.png, learning_curves.svg: eval/perplexity, train/perplexity, train/learn")
    assert "small      step 60, held-out perplexity 400.00 at step 40, the best 400.00 at step 40\n" in out
    svg = (tmp_path / "learning_curves.svg").read_text()
    for text in ("small", "_a$b$ &amp; c", "Two of &lt;them&gt;", "Held-out perplexity", "400<", "400.5<", "531.4<"):
        assert text in svg
    png = (tmp_path / "learning_curves.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert width == 2200
    assert 1200 < height < 1800
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "learning_curves.png", "learning_curves.svg"}


def drawn(figure):
    """The lines of the data by their ids."""
    return {line.get_gid(): line.get_xydata() for axes in figure.axes for line in axes.get_lines() if line.get_gid()}


def test_lines_are_the_metrics(tmp_path):
    runs = curves.load(runs_of(tmp_path, "a", "b"))
    lines = drawn(plots.draw(runs, ["eval/perplexity", "train/perplexity"], "tokens", "t"))
    assert set(lines) == {f"{kind}/perplexity of {name}" for kind in ("eval", "train") for name in "ab"}
    np.testing.assert_allclose(lines["eval/perplexity of b"], [[800, 801], [1600, 400.5]])
    wanted = np.transpose([400 * np.arange(1, 7), perplexities(6, 900, 0.9)])
    np.testing.assert_allclose(lines["train/perplexity of a"], wanted)


def test_a_long_curve_is_smoothed_above_its_values(tmp_path):
    runs = curves.load(runs_of(tmp_path, "a", n=200))
    figure = plots.draw(runs, ["train/perplexity"], "steps", "t")
    raw, smooth = figure.axes[0].get_lines()[:2]
    values = runs[0].curves["train/perplexity"].values
    np.testing.assert_array_equal(raw.get_ydata(), values)
    np.testing.assert_allclose(smooth.get_ydata(), np.exp(curves.smoothed(np.log(values), 4)))


def test_values_without_a_logarithm_are_drawn_too(tmp_path):
    lines = [{"step": n, "train/gradient_norm": float(n % 3), "train/learning_rate": 0.0} for n in range(1, 9)]
    runs = curves.load([make_run(tmp_path / "a", lines)])
    figure = plots.draw(runs, ["train/gradient_norm", "train/learning_rate"], "steps", "t")
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear"]
    assert figure.axes[0].get_ylim()[0] < 0 < 2 < figure.axes[0].get_ylim()[1]


def test_far_apart_learning_rates_get_a_logarithmic_scale(tmp_path):
    runs = curves.load(runs_of(tmp_path, "a", "b"))
    assert plots.draw(runs, ["train/learning_rate"], "steps", "t").axes[0].get_yscale() == "log"
    assert plots.draw(runs[:1], ["train/learning_rate"], "steps", "t").axes[0].get_yscale() == "linear"


def test_many_runs_differ_in_colour_or_dashes_and_stay_inside_the_figure(tmp_path):
    names = [f"run_{n:02}_{'x' * n}" for n in range(28)]
    runs = curves.load(runs_of(tmp_path, *names, n=60))
    figure = plots.draw(runs, panels.DEFAULT[:3], "hours", "t")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert len({str(plots.style(n)) for n in range(28)}) == 28
    figure.draw_without_rendering()
    canvas = figure.bbox
    for text in [*legend.get_texts(), *itertools.chain(*(axes.texts for axes in figure.axes))]:
        box = text.get_window_extent()
        assert canvas.x0 <= box.x0 < box.x1 <= canvas.x1, text
        assert canvas.y0 <= box.y0 < box.y1 <= canvas.y1, text


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_moved_apart_as_little_as_can_be(seed):
    rng = np.random.default_rng(seed)
    places, gap = np.round(rng.uniform(0, 1, 4), 1), 0.2
    found = np.array(plots.moved_apart(places.tolist(), gap))
    order = np.argsort(places, kind="stable")
    assert (np.diff(found[order]) >= gap - 1e-9).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-9
    grid = np.linspace(0, 1, 41)
    choices = [c for c in itertools.combinations(grid, 4) if (np.diff(c) >= gap - 1e-9).all()]
    best = min(np.square(np.array(choices) - places[order]).sum(axis=1))
    assert np.square(found - places).sum() <= best + 1e-9


def test_files_are_replaced_only_by_force(tmp_path, elmo_plot):
    (path,) = runs_of(tmp_path, "a")
    (tmp_path / "mine.svg").write_text("mine")
    status, out, err = elmo_plot(path, "--output", "mine.png")
    assert (status, out) == (2, "")
    assert err == "elmo: mine.svg exists; choose another --output, or give --force to replace it\n"
    assert not (tmp_path / "mine.png").exists()
    assert elmo_plot(path, "--output", "mine", "--force")[0] == 0
    assert (tmp_path / "mine.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none is not a run directory: it has no config.json"),
        (["a", "a"], "a is given twice; name each run once"),
        (["a", "--metrics", "train/los"], "no run has the metric 'train/los'; there are eval/perplexity, "),
        (["a", "--x-axis", "days"], "argument --x-axis: invalid choice: 'days'"),
        ([], "the following arguments are required: RUN; see elmo plot --help"),
        (["a", "--output", "a/config.json/x"], "cannot write a/config.json/x.png: "),
    ],
)
def test_a_mistake_is_one_line(tmp_path, elmo_plot, arguments, message):
    runs_of(tmp_path, "a")
    status, out, err = elmo_plot(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"elmo: {message}")
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
