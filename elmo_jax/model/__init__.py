"""The network and its maths, in Flax Linen; never touches files.

Dimension key (a suffix of array names): **B** rows, **T** tokens in a window, **C** characters of a token (or, in the
LSTM, cell units), **U** distinct types, **E** character embedding, **F** all filters, **P** projection, **G** = 4 C
gates, **D** directions (0 forward, 1 backward; only the first in a forward-only model), **L** layers, **V** words,
**N** any flat number of positions. So ``x_DTBP`` is float ``[directions, tokens, rows, projection]``. Types are
``types_U``: characters ``[U, C]`` or words ``[U]``.
"""
