#!/usr/bin/env bash
# A checkpoint becomes the model of models/: exported, quantised, measured with transformers and with glimpse.
#
#   tools/demo_model/ship.sh CHECKPOINTS WORK GLIMPSE QUANTIZE
#
# CHECKPOINTS: folder of last.pt. WORK: a folder for what is not committed. GLIMPSE: the binary. QUANTIZE: a program that is
# called with IN OUT TYPE: llama.cpp's llama-quantize, or "GLIMPSE quantize".
# SCALE=0.1 in the environment takes a tenth of the held-out set, to try the road.
# Writes models/demo-Q8_0.gguf, demo-Q4_K_M.gguf, mmproj-demo-f16.gguf, training.json, heldout/ and measured.json; prints
# what the card says.
set -euo pipefail
checkpoints=$1 work=$2 glimpse=$3 quantize=$4
root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tools/demo_model"
models="$root/models"
mkdir -p "$models" "$work"

python3 "$here/export.py" --checkpoints "$checkpoints" --out "$work"
for type in Q8_0 Q4_K_M; do
  rm -f "$models/demo-$type.gguf"
  $quantize "$work/demo-f32.gguf" "$models/demo-$type.gguf" "$type" >"$work/quantize-$type.log" 2>&1
done
cp "$work/mmproj-demo-f16.gguf" "$models/"
cp "$work/state.json" "$models/training.json"
python3 "$here/heldout.py" --out "$models/heldout" --scale "${SCALE:-1}"
python3 "$here/measure.py" --hf "$work/hf" --cases "$models/heldout" --out "$models/measured.json"

ask() {  # name, text model, mmproj, options: answers to WORK/name.json, the difference to transformers
  local name=$1 text=$2 mmproj=$3
  shift 3
  "$glimpse" eval -m "$text" --mmproj "$mmproj" --cases "$models/heldout" --json "$@" >"$work/$name.json"
  echo "$name: $(python3 "$here/measure.py" --hf "$work/hf" --cases "$models/heldout" --compare "$models/measured.json" "$work/$name.json")"
}
f32=(--vision-precision f32 --kv-type f32)
ask f32 "$work/demo-f32.gguf" "$work/mmproj-demo-f32.gguf" "${f32[@]}"
for type in Q8_0 Q4_K_M; do
  ask "$type-f32" "$models/demo-$type.gguf" "$models/mmproj-demo-f16.gguf" "${f32[@]}"
  ask "$type-bf16" "$models/demo-$type.gguf" "$models/mmproj-demo-f16.gguf" --vision-precision bf16
done
python3 "$here/card.py" --state "$work/state.json" --measured "$models/measured.json" \
  --runs "$work"/{f32,Q8_0-f32,Q8_0-bf16,Q4_K_M-f32,Q4_K_M-bf16}.json
ls -l "$models"/*.gguf
