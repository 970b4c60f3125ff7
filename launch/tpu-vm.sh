#!/bin/bash
# Trains on a Cloud TPU slice: the same command on all of its hosts, by ssh.
#
#   export TPU=my-slice ZONE=us-east5-a                                  # and gcloud's own settings, such as the project
#   launch/tpu-vm.sh setup https://github.com/.../elmo_jax               # once: the checkout and its packages on each host
#   launch/tpu-vm.sh train --config elmo_original --config.run_dir=/shared/runs/elmo ...
#   launch/tpu-vm.sh log                                                 # of the first host, until Ctrl-C
#   launch/tpu-vm.sh stop                                                # saves; `train` with the same arguments goes on
#
# The run directory must be on a disk that all hosts share, such as Filestore, mounted under the same path.
set -euo pipefail

usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0" >&2
  exit 2
}

# Runs a command line on the hosts that `workers` names.
on_hosts() {
  local workers=$1 command=$2
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$workers" --command="$command"
}

[[ $# -ge 1 ]] || usage
: "${TPU:?name the slice: export TPU=...}" "${ZONE:?name its zone: export ZONE=...}"
verb=$1
shift
case $verb in
  setup)
    [[ $# -eq 1 ]] || usage
    on_hosts all "git clone $(printf %q "$1") elmo_jax && cd elmo_jax && python3 -m venv .venv &&
      .venv/bin/pip install --quiet '.[tpu]'"
    ;;
  train)
    [[ $# -ge 1 ]] || usage
    # Training goes on when the connection breaks. Where it runs already, this says so and starts no other.
    on_hosts all "cd elmo_jax || exit 2
      if [ -f train.pid ] && kill -0 \$(cat train.pid) 2>/dev/null; then
        echo 'training runs here already' >&2
        exit 75
      fi
      nohup .venv/bin/elmo train --multihost=auto $(printf '%q ' "$@") >>train.log 2>&1 </dev/null &
      echo \$! >train.pid"
    ;;
  log)
    on_hosts 0 "tail -n 50 -f elmo_jax/train.log"
    ;;
  stop)
    on_hosts all "cd elmo_jax && kill -TERM \$(cat train.pid) && tail --pid=\$(cat train.pid) -f /dev/null"
    ;;
  *)
    usage
    ;;
esac
