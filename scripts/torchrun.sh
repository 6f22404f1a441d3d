#!/usr/bin/env bash
# One run on one or several machines. Start the same line on each of them:
#   HEAD=first-machine NODES=2 GPUS=4 scripts/torchrun.sh experiment=photos run_dir=runs/photos
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec torchrun \
  --nnodes="${NODES:-1}" \
  --nproc-per-node="${GPUS:-2}" \
  --rdzv-backend=c10d \
  --rdzv-endpoint="${HEAD:-localhost}:${PORT:-29500}" \
  --rdzv-id="${NAME:-tsgb}" \
  scripts/run.py "$@"
