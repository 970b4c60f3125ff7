"""Corpora prepared by Apache Beam, on this machine or on a cluster; the results are those of ``data/corpus.py``.

A launcher lists the files and cuts them into shards (``files.py``), builds the pipeline and runs it (``pipeline.py``),
and puts the parts that the workers wrote together (``corpus.py``). What workers do is in ``work.py``. Workers need this
package without its dependency on JAX; Apache Beam is imported where it is used.
"""
