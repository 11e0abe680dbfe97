#!/usr/bin/env bash
# Train on several GPUs of one machine or more, or in several CPU processes where there is no GPU.
# Usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT as OpenMMLab has them.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
CONFIG=$1 GPUS=$2
shift 2
preflight "$TOOLS/train.py" "$CONFIG" "$@"
launch "$TOOLS/train.py" "$CONFIG" "$@"
