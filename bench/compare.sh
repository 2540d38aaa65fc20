#!/usr/bin/env bash
# Makes the models, runs glimpse and your llama.cpp in turn, writes the reports behind README's table.
#
#   bench/compare.sh LLAMA_BIN [FOLDER]
#
# LLAMA_BIN: the folder of llama-bench and llama-mtmd-cli, built Release for this CPU.
# FOLDER (default: build/compare): models (5 GB, kept for the next time) and reports. PAIRS=N: runs of each engine (5).
# About 40 minutes on two cores, on which nothing else may run.
set -euo pipefail
case "${1:-}" in
  ""|-h|--help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
root="$(cd "$(dirname "$0")/.." && pwd)"
llama="$1" folder="${2:-$root/build/compare}" pairs="${PAIRS:-5}"
glimpse="$root/build/release/glimpse"
if [[ ! -x $glimpse ]]; then
  cmake --preset release -S "$root" >/dev/null
  cmake --build "$root/build/release" --target glimpse_cli -j "$(nproc)"
fi
mkdir -p "$folder"

for type in Q4_K_M Q4_0 Q8_0; do
  [[ -f $folder/$type.gguf ]] || "$glimpse" synth -m "$folder/$type.gguf" --type "$type"
done
for type in F16 BF16; do
  [[ -f $folder/mmproj-$type.gguf ]] || "$glimpse" synth --mmproj "$folder/mmproj-$type.gguf" --mmproj-type "$type"
done
for side in 448 1008; do  # what is seen costs nothing: any bytes are a picture
  { printf 'P6\n%d %d\n255\n' "$side" "$side"; { yes 'a picture for glimpse' || true; } | head -c $((side * side * 3)); } \
    >"$folder/$side.ppm"
done

report() {  # NAME ARGUMENT...
  local name="$1"
  shift
  echo "== $name" >&2
  "$glimpse" compare --llama-bin "$llama" --pairs "$pairs" --image-max-tokens 1600 -c 8192 --force \
    --markdown "$folder/$name.md" --html "$folder/$name.html" "$@"
  sed -n '/^| stage/,/^$/p' "$folder/$name.md"
}
texts_off=(--n-prompt 0 --n-gen 0 --n-depth 0 -n 16)
small=(--image "$folder/448.ppm")
both=("${small[@]}" --image "$folder/1008.ppm")
report q4_k_m-bf16-vision -m "$folder/Q4_K_M.gguf" --mmproj "$folder/mmproj-F16.gguf" "${small[@]}" --n-depth 2048,4096
report q4_0 -m "$folder/Q4_0.gguf" --n-depth 0
report q8_0 -m "$folder/Q8_0.gguf" --n-depth 0
report int8-vision-f16-peer -m "$folder/Q4_K_M.gguf" --mmproj "$folder/mmproj-F16.gguf" "${both[@]}" "${texts_off[@]}" \
  --vision-precision int8
report int8-vision-bf16-peer -m "$folder/Q4_K_M.gguf" --mmproj "$folder/mmproj-BF16.gguf" "${both[@]}" "${texts_off[@]}" \
  --vision-precision int8
report bf16-vision-bf16-peer -m "$folder/Q4_K_M.gguf" --mmproj "$folder/mmproj-BF16.gguf" "${small[@]}" "${texts_off[@]}" \
  --vision-precision bf16
