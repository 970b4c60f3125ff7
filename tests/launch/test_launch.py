"""The recipes of launch/, as far as they can be tried without a cluster: stand-ins take the place of its programs."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from elmo_jax.cli import make_parser

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
MANIFESTS = sorted(LAUNCH.glob("*.yaml"))
# Arguments of `elmo train` for many hosts.
PLANNED = {"--multihost", "--coordinator", "--num_processes", "--process_id"}

# Programs of a cluster. Each run of `elmo` writes its arguments, a line each, and ends as it is told to.
STAND_INS = {
    "elmo": """
        printf '%s\\n' "$@" >"$LOG/elmo"; pwd >"$LOG/directory"; echo "$JAX_LOCAL_DEVICE_IDS" >"$LOG/devices"
        ls "$LOG/local"/* >"$LOG/copied" 2>/dev/null
        trap 'exit 143' TERM; [ -z "$WAIT" ] || { touch "$LOG/started"; sleep 30 >/dev/null 2>&1 & wait; }
        exit "$STATUS" """,
    "srun": """
        while [[ $1 == -* ]]; do shift; done
        trap 'kill -TERM $child' TERM; "$@" & child=$!; wait $child; wait $child""",
    "squeue": 'echo "$STATE"',
    "scontrol": 'echo "$@" >>"$LOG/scontrol"',
    "gcloud": """
        for argument; do case $argument in
          --command=*) command=${argument#*=} ;; --worker=*) echo "$argument" >"$LOG/worker" ;;
        esac; done; HOME="$LOG" bash -c "cd; $command" """,
    "git": 'mkdir -p "$3"; echo "$2" >"$LOG/cloned"',
    "python3": 'mkdir -p .venv/bin; ln -s "$LOG/bin/pip" .venv/bin',
    "pip": 'echo "$@" >"$LOG/pip"',
}


@pytest.fixture
def cluster(tmp_path):
    """Runs a script of launch/ among stand-ins; gives the process, and what the stand-ins wrote is in its folder."""
    programs = tmp_path / "bin"
    for name, script in STAND_INS.items():
        program = programs / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    venv = tmp_path / ".venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").touch()

    def start(script: str, *arguments: str, **environment: str) -> subprocess.Popen:
        everything = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LOG": str(tmp_path),
            "STATUS": "0",
            "STATE": "RUNNING",
            "SLURM_JOB_ID": "77",
            "SLURM_GPUS_ON_NODE": "4",
            "SLURM_TMPDIR": str(tmp_path / "local"),
            **environment,
        }
        command = [shutil.which("bash"), str(LAUNCH / script), *arguments]
        return subprocess.Popen(command, env=everything, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    return start


def finished(process: subprocess.Popen) -> tuple[int, str]:
    _, err = process.communicate(timeout=30)
    return process.returncode, err


ODD = ["--config", "a b.py", "--config.data.train=/x/*.txt,y 'z'", '--config.run_dir=$HOME/"r"']


# Slurm


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [(0, "RUNNING", False), (143, "RUNNING", True), (143, "COMPLETING", False), (2, "RUNNING", False)],
)
def test_a_job_goes_back_into_the_queue_when_it_was_stopped_and_not_cancelled(
    cluster, tmp_path, status, state, requeued
):
    assert finished(cluster("slurm.sbatch", *ODD, STATUS=str(status), STATE=state)) == (status, "")
    assert (tmp_path / "elmo").read_text().splitlines() == ["train", "--multihost=auto", *ODD]
    assert (tmp_path / "devices").read_text() == "0,1,2,3\n"
    assert (tmp_path / "scontrol").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol").read_text() == "requeue 77\n"


def test_sigterm_to_the_script_alone_waits_for_the_training(cluster, tmp_path):
    script = cluster("slurm.sbatch", *ODD, WAIT="yes")
    try:
        wait_for(tmp_path / "started")
        script.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            script.wait(0.5)
    finally:
        end_children(script)
    assert finished(script)[0] == 143


def test_encoded_text_is_copied_to_the_node_and_removed(cluster, tmp_path):
    (tmp_path / "encoded" / "text-1").mkdir(parents=True)
    (tmp_path / "encoded" / "text-1" / "ids.bin").touch()
    assert finished(cluster("slurm.sbatch", *ODD, ENCODED=str(tmp_path / "encoded"))) == (0, "")
    cache = f"{tmp_path}/local/elmo-77"
    assert (tmp_path / "elmo").read_text().splitlines() == [
        *["train", "--multihost=auto", *ODD],
        f"--config.data.cache_dir={cache}",
    ]
    assert (tmp_path / "copied").read_text() == "text-1\n"
    assert not os.path.exists(cache)


# TPU VMs


def test_training_starts_on_every_host_with_its_arguments_and_only_once(cluster, tmp_path):
    about = {"TPU": "slice", "ZONE": "here"}
    assert finished(cluster("tpu-vm.sh", "setup", "https://example.com/elmo jax", **about)) == (0, "")
    assert (tmp_path / "cloned").read_text() == "https://example.com/elmo jax\n"
    assert (tmp_path / "pip").read_text() == "install --quiet .[tpu]\n"
    checkout = tmp_path / "elmo_jax"
    shutil.copy(tmp_path / "bin" / "elmo", checkout / ".venv" / "bin" / "elmo")
    assert finished(cluster("tpu-vm.sh", "train", *ODD, WAIT="yes", **about)) == (0, "")
    wait_for(tmp_path / "started")
    assert (tmp_path / "worker").read_text() == "--worker=all\n"
    assert (tmp_path / "elmo").read_text().splitlines() == ["train", "--multihost=auto", *ODD]
    assert (tmp_path / "directory").read_text() == f"{checkout}\n"
    assert finished(cluster("tpu-vm.sh", "train", *ODD, **about)) == (75, "training runs here already\n")
    pid = int((checkout / "train.pid").read_text())
    assert finished(cluster("tpu-vm.sh", "stop", **about)) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("arguments", [(), ("fly",), ("train",)])
def test_what_is_no_verb_shows_the_use(cluster, arguments):
    status, err = finished(cluster("tpu-vm.sh", *arguments, TPU="slice", ZONE="here"))
    assert status == 2
    assert err.startswith("Trains on a Cloud TPU slice")


def test_the_slice_has_to_be_named(cluster):
    assert "name the slice: export TPU=..." in finished(cluster("tpu-vm.sh", "log"))[1]


# Kubernetes


def documents(manifest: Path) -> tuple[dict, dict]:
    service, job = yaml.safe_load_all(manifest.read_text())
    return service, job


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_those_of_kubernetes(manifest):
    schema = json.loads((Path(__file__).parent / "kubernetes-1.34.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for document in documents(manifest):
        validator.validate(document)
    _, job = documents(manifest)
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    assert not validator.is_valid(job)  # a name that Kubernetes does not know


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_the_parts_of_a_manifest_fit_together(manifest):
    service, job = documents(manifest)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    name, (container,) = job["metadata"]["name"], pod["containers"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    # How a pod finds another one: <job>-<index>.<subdomain>, which is the name of a headless service for these pods.
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in container["command"][2:])
    if "coordinator" in flags:
        assert flags["coordinator"].partition(":")[0] == f"{name}-0.{pod['subdomain']}"
        assert int(flags["num_processes"]) == spec["completions"]
        assert flags["process_id"] == "$(JOB_COMPLETION_INDEX)"
    (fail,) = (rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert fail["onExitCodes"]["containerName"] == container["name"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for each in (container, *pod["initContainers"]):
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
    run, cache = Path(flags["config.run_dir"]), Path(next(e["value"] for e in container["env"]))
    assert not cache.is_relative_to(run)


def test_the_topology_of_the_tpu_slice_has_the_chips_of_its_pods():
    (manifest,) = (path for path in MANIFESTS if "tpu" in path.name)
    _, job = documents(manifest)
    pod = job["spec"]["template"]["spec"]
    x, y, z = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert x * y * z == job["spec"]["completions"] * pod["containers"][0]["resources"]["limits"]["google.com/tpu"]


# All of them


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    program = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([program, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def commands() -> list[tuple[str, list[str]]]:
    """Where `elmo` is run, and with which words."""
    found = []
    for manifest in MANIFESTS:
        (container,) = documents(manifest)[1]["spec"]["template"]["spec"]["containers"]
        found.append((manifest.name, container["command"][1:]))
    for path in (*SCRIPTS, LAUNCH / "README.md"):
        for line in path.read_text().splitlines():
            before, elmo, words = line.partition("elmo train ")
            if elmo and "`" not in before:
                found.append((path.name, ["train", *words.replace('"', " ").split()]))
    return found


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_flag_is_one_of_elmo_train(where, words):
    (subparsers,) = (action for action in make_parser()._actions if action.dest == "command")
    known = {option for action in subparsers.choices[words[0]]._actions for option in action.option_strings}
    flags = {word.partition("=")[0] for word in words if word.startswith("--") and not word.startswith("--config.")}
    assert flags
    assert flags <= known | PLANNED, where


def wait_for(path: Path) -> None:
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def end_children(process: subprocess.Popen) -> None:
    """SIGTERM to the processes below one, as Slurm sends it to the steps of a job."""
    below = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    for pid in below.split():
        os.kill(int(pid), signal.SIGTERM)
