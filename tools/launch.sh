# Sourced by the launchers: which Python, where the tools are, one check before many processes start.
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
PORT=${PORT:-29500}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}

# The checkout's own environment, unless another one is active or PYTHON names one.
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
        PYTHON=$TOOLS/../.venv/bin/python
    fi
fi

# preflight TOOL ARGUMENTS: say an input error once and exit with its code; exit 0 if the record is there already.
preflight() {
    case $GPUS in
        '' | *[!0-9]* | 0) echo "error: GPUS is '$GPUS': give a number of GPUs, at least 1" >&2; exit 2 ;;
    esac
    local code=0
    "$PYTHON" "$@" --gpus-per-node "$GPUS" --preflight "$((GPUS * NNODES))" || code=$?
    [ "$code" -ne 10 ] || exit 0
    [ "$code" -eq 0 ] || exit "$code"
}

# launch TOOL ARGUMENTS: the processes, through torchrun.
launch() {
    export FLSL_BENCH_CHECKED=1
    exec "$PYTHON" -m torch.distributed.run --nnodes "$NNODES" --node_rank "$NODE_RANK" \
        --nproc_per_node "$GPUS" --master_addr "$MASTER_ADDR" --master_port "$PORT" \
        "$@" --launcher pytorch
}

# slurm TOOL ARGUMENTS: the processes, through srun, with OpenMMLab's variables.
slurm() {
    local gpus=${GPUS:-8}
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    # SRUN_ARGS holds several words.
    # shellcheck disable=SC2086
    exec srun -p "$PARTITION" --job-name="$JOB_NAME" --gres="gpu:$per_node" --ntasks="$gpus" \
        --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "$PYTHON" -u "$@" --launcher slurm
}
