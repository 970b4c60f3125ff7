"""The recurrence: against plain NumPy, over window borders, and under reset and keep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model.lstm import lstm

D, T, B, P, C = 2, 6, 4, 3, 5
CLIPS = {"cell_clip": 0.8, "proj_clip": 0.3}
UNCLIPPED = {"cell_clip": None, "proj_clip": None}


def parameters(c=C, p=P, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "input_kernel": (D, p, 4 * c),
        "recurrent_kernel": (D, p, 4 * c),
        "bias": (D, 4 * c),
        "projection": (D, c, p),
    }
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    if p == c:
        del params["projection"]
    return params


def example(c=C, p=P, steps=T):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(D, steps, B, p)).astype(np.float32)
    carry = {
        "cell": rng.normal(size=(D, B, c)).astype(np.float32),
        "hidden": rng.normal(size=(D, B, p)).astype(np.float32),
    }
    reset = rng.random((steps, B)) < 0.3
    keep = rng.random((steps, B)) < 0.7
    return x, carry, reset, keep


def by_hand(params, x, carry, reset, keep, cell_clip, proj_clip):
    """One number at a time, as ELMO_SPEC 2.4 and the contract of reset and keep say."""
    cells, hiddens = carry["cell"].astype(float).copy(), carry["hidden"].astype(float).copy()
    y = np.zeros((*x.shape[:3], hiddens.shape[-1]))
    for d in range(D):
        for b in range(B):
            for t in range(x.shape[1]):
                if not keep[t, b]:
                    continue
                if reset[t, b]:
                    cells[d, b], hiddens[d, b] = 0, 0
                z = x[d, t, b] @ params["input_kernel"][d] + hiddens[d, b] @ params["recurrent_kernel"][d]
                i, j, f, o = np.split(z + params["bias"][d], 4)
                cell = 1 / (1 + np.exp(-(f + 1))) * cells[d, b] + 1 / (1 + np.exp(-i)) * np.tanh(j)
                cells[d, b] = cell if cell_clip is None else np.clip(cell, -cell_clip, cell_clip)
                hidden = 1 / (1 + np.exp(-o)) * np.tanh(cells[d, b])
                if "projection" in params:
                    hidden = hidden @ params["projection"][d]
                    hidden = hidden if proj_clip is None else np.clip(hidden, -proj_clip, proj_clip)
                hiddens[d, b] = y[d, t, b] = hidden
    return y, {"cell": cells, "hidden": hiddens}


@pytest.fixture(
    params=[{"stepwise": False}, {"stepwise": True}, {"stepwise": True, "turned": True}],
    ids=["all directions at once", "stepwise", "turned"],
)
def form(request):
    return request.param


@pytest.mark.parametrize("p", [P, C], ids=["projected", "P = C"])
@pytest.mark.parametrize("clips", [CLIPS, UNCLIPPED], ids=["clipped", "unclipped"])
def test_equals_the_recurrence_by_hand(clips, p, form):
    params, inputs = parameters(p=p), example(p=p)
    got = lstm(params, *inputs, **clips, **form)
    wanted = by_hand(params, *inputs, **clips)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, wanted)


def plainly(params, x, carry, reset, keep, cell_clip, proj_clip):
    """The recurrence as written in ELMO_SPEC 2.4, a step after the other, for JAX to differentiate."""
    limit = lambda a, bound: a if bound is None else jnp.clip(a, -bound, bound)  # noqa: E731
    cell, hidden, outputs = carry["cell"], carry["hidden"], []
    for t in range(x.shape[1]):
        start, real = reset[t][:, None], keep[t][:, None]
        c, m = jnp.where(start, 0, cell), jnp.where(start, 0, hidden)
        z = x[:, t] @ params["input_kernel"] + m @ params["recurrent_kernel"] + params["bias"][:, None]
        i, j, f, o = jnp.split(z, 4, axis=-1)
        c = limit(jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(j), cell_clip)
        m = jax.nn.sigmoid(o) * jnp.tanh(c)
        if "projection" in params:
            m = limit(m @ params["projection"], proj_clip)
        cell, hidden = jnp.where(real, c, cell), jnp.where(real, m, hidden)
        outputs.append(jnp.where(real, m, 0))
    return jnp.stack(outputs, axis=1), {"cell": cell, "hidden": hidden}


def outputs_and_gradients(recurrence, p, steps, rows, clips):
    """Outputs and state, and the gradients of a weighted sum of both."""
    params, (x, carry, reset, keep) = parameters(p=p), example(p=p, steps=steps)
    x, reset, keep = x[:, :, :rows], reset[:, :rows], keep[:, :rows]
    carry = {name: value[:, :rows] for name, value in carry.items()}
    rng = np.random.default_rng(2)
    weights = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), (x, carry))

    @jax.jit
    def both(*inputs):
        outputs, gradient = jax.vjp(lambda *inputs: recurrence(*inputs, reset, keep, **clips), *inputs)
        return outputs, gradient(weights)

    return both(params, x, carry)


@pytest.mark.parametrize(
    ("clips", "p", "steps", "rows"),
    [
        (CLIPS, P, T, B),
        (CLIPS, C, T, B),
        (UNCLIPPED, P, T, B),
        (UNCLIPPED, C, T, B),
        (CLIPS, P, 1, B),
        (CLIPS, P, T, 1),
    ],
    ids=["clipped", "clipped, P = C", "unclipped", "unclipped, P = C", "one step", "one row"],
)
def test_gradients_are_those_of_the_recurrence_differentiated_by_jax(clips, p, steps, rows, form):
    functions = partial(lstm, **form), plainly
    (_, got), (_, wanted) = (outputs_and_gradients(f, p, steps, rows, clips) for f in functions)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5), got, wanted)


@pytest.mark.parametrize(
    ("clips", "p", "steps", "rows", "dtype"),
    [
        (CLIPS, P, T, B, jnp.float32),
        (CLIPS, P, T, B, jnp.bfloat16),
        (UNCLIPPED, C, T, B, jnp.float32),
        (CLIPS, P, 1, 1, jnp.float32),
    ],
    ids=["clipped", "clipped, bfloat16", "unclipped, P = C", "one step of one row"],
)
def test_gates_that_are_computed_again_change_no_bit_of_the_values_and_no_gradient(clips, p, steps, rows, form, dtype):
    functions = (partial(lstm, dtype=dtype, **form, recompute_gates=again) for again in (True, False))
    (values, got), (kept, wanted) = (outputs_and_gradients(f, p, steps, rows, clips) for f in functions)
    jax.tree.map(np.testing.assert_array_equal, values, kept)
    # In bfloat16 a last bit of a sum may become one of a factor.
    bound = 2e-5 if dtype == jnp.float32 else 2e-2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=bound, rtol=bound), got, wanted)


def test_gates_that_are_computed_again_take_no_memory(form):
    c, steps = 64, 24
    params, (x, carry, reset, keep) = parameters(c=c), example(c=c, steps=steps)

    def working_memory(recompute_gates):
        def total(params, x):
            options = {**form, "recompute_gates": recompute_gates, **CLIPS}
            return lstm(params, x, carry, reset, keep, **options)[0].sum()

        return jax.jit(jax.grad(total, (0, 1))).lower(params, x).compile().memory_analysis().temp_size_in_bytes

    gates = D * steps * B * 4 * c * 4
    assert working_memory(False) - working_memory(True) == pytest.approx(gates, rel=0.2)


def test_two_windows_with_carry_are_one_window_of_twice_the_length():
    params, (x, carry, reset, keep) = parameters(), example(steps=2 * T)
    whole, end = lstm(params, x, carry, reset, keep, **CLIPS)
    first, middle = lstm(params, x[:, :T], carry, reset[:T], keep[:T], **CLIPS)
    second, last = lstm(params, x[:, T:], middle, reset[T:], keep[T:], **CLIPS)
    np.testing.assert_array_equal(jnp.concatenate([first, second], axis=1), whole)
    jax.tree.map(np.testing.assert_array_equal, last, end)


def test_gradients_of_two_windows_are_those_of_one():
    params, (x, carry, reset, keep) = parameters(), example(steps=2 * T)
    weight = jax.random.normal(jax.random.key(0), (D, 2 * T, B, P))

    def whole(params, x, carry):
        return (lstm(params, x, carry, reset, keep, **CLIPS)[0] * weight).sum()

    def halves(params, x, carry):
        first, carry = lstm(params, x[:, :T], carry, reset[:T], keep[:T], **CLIPS)
        second, _ = lstm(params, x[:, T:], carry, reset[T:], keep[T:], **CLIPS)
        return (jnp.concatenate([first, second], axis=1) * weight).sum()

    got, wanted = (jax.grad(f, (0, 1, 2))(params, x, carry) for f in (halves, whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), got, wanted)


def test_reset_cuts_values_and_gradients():
    params, (x, carry, _, _) = parameters(), example()
    keep, reset = np.ones((T, B), bool), np.zeros((T, B), bool)
    reset[3] = True
    zero = jax.tree.map(np.zeros_like, carry)
    y, _ = lstm(params, x, carry, reset, keep, **CLIPS)
    fresh, _ = lstm(params, x[:, 3:], zero, reset[3:], keep[3:], **CLIPS)
    np.testing.assert_array_equal(y[:, 3:], fresh)

    def after(x, carry):
        return lstm(params, x, carry, reset, keep, cell_clip=None, proj_clip=None)[0][:, 3:].sum()

    d_x, d_carry = jax.grad(after, (0, 1))(x, carry)
    assert not d_x[:, :3].any()
    assert d_x[:, 3:].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(d_carry))


def test_padding_copies_the_state_gives_zero_and_takes_no_gradient():
    params, (x, carry, reset, _) = parameters(), example()
    keep = np.ones((T, B), bool)
    keep[2:4] = False
    y, end = lstm(params, x, carry, reset, keep, **CLIPS)
    without = [np.delete(a, [2, 3], axis=axis) for a, axis in ((x, 1), (reset, 0), (keep, 0))]
    short, short_end = lstm(params, without[0], carry, without[1], without[2], **CLIPS)
    np.testing.assert_array_equal(np.delete(y, [2, 3], axis=1), short)
    assert not y[:, 2:4].any()
    jax.tree.map(np.testing.assert_array_equal, end, short_end)
    d_x = jax.grad(lambda x: sum(a.sum() for a in jax.tree.leaves(lstm(params, x, carry, reset, keep, **CLIPS))))(x)
    assert not d_x[:, 2:4].any()


def test_bfloat16_products_stay_near_and_the_state_stays_float32():
    params, inputs = parameters(), example()
    exact, _ = lstm(params, *inputs, **CLIPS)
    rough, carry = lstm(params, *inputs, **CLIPS, dtype=jnp.bfloat16)
    np.testing.assert_allclose(rough, exact, atol=0.05)
    assert carry["cell"].dtype == carry["hidden"].dtype == rough.dtype == jnp.float32


def test_gradients_with_bfloat16_products_stay_near(form):
    functions = partial(lstm, dtype=jnp.bfloat16, **form), plainly
    (_, got), (_, wanted) = (outputs_and_gradients(f, P, T, B, UNCLIPPED) for f in functions)
    near = lambda a, b: np.linalg.norm(a - b) < 0.02 * np.linalg.norm(b)  # noqa: E731
    assert all(jax.tree.leaves(jax.tree.map(near, got, wanted)))
