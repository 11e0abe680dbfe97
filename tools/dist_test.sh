#!/usr/bin/env bash
# Score a fine-tuned checkpoint on several GPUs, or in several CPU processes where there is no GPU.
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT as OpenMMLab has them.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
CONFIG=$1 CHECKPOINT=$2 GPUS=$3
shift 3
preflight "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" "$@"
launch "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" "$@"
