"""The pipeline of Apache Beam, and running it where its options say."""

import contextlib
import io
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from elmo_jax.data import processes
from elmo_jax.data.beam import sorting, work, worker
from elmo_jax.data.beam.files import filesystems
from elmo_jax.errors import UserError

# Beam's runner for one machine. Its DirectRunner first tries another one, for which it downloads a program.
LOCAL_RUNNER = "FnApiRunner"


def parse(flags: str) -> Any:
    """Options of a pipeline, written as Beam's documentation does: ``--runner=DataflowRunner --project=...``.

    Without a runner, or with DirectRunner, the pipeline runs on this machine, in a process for each core.

    Raises:
        UserError: when Beam does not understand them, or is not installed.
    """
    filesystems()
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    complaint = io.StringIO()
    try:
        words = shlex.split(flags)
        with contextlib.redirect_stderr(complaint):
            options = PipelineOptions(words)
            known = options.get_all_options()
            given = options.get_all_options(retain_unknown_options=True)
    except (ValueError, SystemExit) as error:
        reason = complaint.getvalue().strip().rpartition("error: ")[2] or error
        raise UserError(f"--beam={shlex.quote(flags)}: {reason}") from error
    standard = options.view_as(StandardOptions)
    if standard.runner not in (None, "DirectRunner", LOCAL_RUNNER):
        return options
    if unknown := sorted(given.keys() - known.keys()):
        raise UserError(f"--beam={shlex.quote(flags)}: Beam has no option --{unknown[0]} for a pipeline on one machine")
    defaults = [
        f"--direct_num_workers={processes.available()}",
        "--direct_running_mode=multi_processing",
        "--default_sdk_harness_log_level=ERROR",
        f"--beam_plugin={worker.__name__}",
    ]
    options = PipelineOptions([*defaults, *words])
    options.view_as(StandardOptions).runner = LOCAL_RUNNER
    return options


def temporary_place(options: Any) -> str:
    """What Beam calls the temporary location, without a slash at its end; empty when nobody named one."""
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    return (options.view_as(GoogleCloudOptions).temp_location or "").rstrip("/")


def run(task: work.Task, options: Any) -> work.Manifest:
    """Run the pipeline to its end.

    Raises:
        UserError: with the first thing that is wrong with the text, and when the pipeline cannot start or is cancelled.
    """
    import apache_beam
    from apache_beam.runners.runner import PipelineState

    here = _local_runner(options)
    try:
        pipeline = apache_beam.Pipeline(here, options)
    except (ValueError, ImportError) as error:
        raise UserError(f"--beam: {error}") from error
    build(pipeline, task)
    state = _run_elsewhere(pipeline) if here is None else _run_here(pipeline)
    if state != PipelineState.DONE:
        raise UserError(f"the pipeline ended as {state}: see the messages of its runner; nothing was written")
    return work.read_manifest(task.folder)


def _run_elsewhere(pipeline: Any) -> str:
    """Run a pipeline on a cluster; its state at the end."""
    result = pipeline.run()
    try:
        return result.wait_until_finish()
    except BaseException:
        # Also when this process is told to stop: nobody would use what the cluster goes on with.
        with contextlib.suppress(Exception):
            result.cancel()
        raise


def _run_here(pipeline: Any) -> str:
    """Run a pipeline on this machine; its state at the end.

    It runs in a thread, which is left alone when this process is told to stop: the workers end then.
    """
    state: Future[str] = Future()

    def target() -> None:
        try:
            state.set_result(pipeline.run().state)
        except BaseException as error:  # it is raised in the thread that waits
            state.set_exception(error)

    with _workers_find_us(), worker.workers_end_with_this_block():
        threading.Thread(target=target, daemon=True).start()
        return state.result()


def _local_runner(options: Any) -> Any:
    """The runner of this machine, whose workers get the options too; None for another runner."""
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    if options.view_as(StandardOptions).runner != LOCAL_RUNNER:
        return None
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return FnApiRunner(provision_info=ExtendedProvisionInfo(info))


def build(pipeline: Any, task: work.Task) -> None:
    """Add the steps of a task to a pipeline."""
    from apache_beam import CombinePerKey, Create, FlatMap, GroupByKey, Map, Reshuffle
    from apache_beam.pvalue import AsList, AsSingleton

    once = pipeline | "Once" >> Create([None])
    numbered = (
        once
        | "Cut into shards" >> FlatMap(work.cut, task)
        | "Spread the shards" >> Reshuffle()
        | "Number" >> FlatMap(work.number_shard, task).with_outputs(work.COUNTS, work.FAILURES, main="pieces")
    )
    pieces, failures = AsList(numbered.pieces), AsList(numbered[work.FAILURES])
    blocks = (
        numbered[work.COUNTS]
        | "Count" >> CombinePerKey(sum).with_input_types(tuple[bytes, int]).with_output_types(tuple[bytes, int])
        | "By length" >> Map(sorting.block_key).with_output_types(tuple[bytes, tuple[bytes, int]])
        | "Into blocks" >> GroupByKey()
        | "Sort" >> Map(sorting.sort_types)
    )
    types = AsSingleton(once | "Write types" >> Map(sorting.write_types, AsList(blocks), task.folder))
    laid_out = (
        once
        | "Place" >> FlatMap(work.places, pieces, failures)
        | "Spread the pieces" >> Reshuffle()
        | "Lay out" >> Map(work.lay_out_piece, types, task.folder)
        if task.encode
        else pipeline | "Nothing" >> Create([])
    )
    once | "Write manifest" >> Map(work.write_manifest, types, pieces, failures, AsList(laid_out), task.folder)


@contextlib.contextmanager
def _workers_find_us() -> Iterator[None]:
    """Let processes that Beam starts on this machine import what this one imports."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
