#!/usr/bin/env bash
# Everything that needs a GPU, on a machine where nothing is built or installed and whose time is short.
#
#   bench/gpu_check.sh [--bin DIR] [--out DIR] [--seconds N] [--model FILE --mmproj FILE] [--quick] PART...
#
# Parts:  right  every test on the device, a group a process; the demo model's answers on CPU and GPU, each way to decode
#         fast   decode, prefill and pictures of a model of 2B; the kernels beside the roofline of the same GPU
#         why    counters of the kernels of a decode step, a prefill and a picture; memory checks of small tests
#
# --bin: the programs of the preset gpu, built beforehand (build/gpu), or an archive of them, which is a third as large:
#     tar czf build/gpu.tgz -C build/gpu glimpse tests/test_cuda bench/gpu_bench
# --out: at most seven files (gpu_check). --seconds: after them no step begins, and none lasts longer (540). --model,
# --mmproj: else a model of random weights is made beside the tests, in /tmp. --quick: small sizes, to try the script
# itself. Every step has its own process and limit; what it printed is in PART.log even when this program is killed. Each
# step's result is a line on standard output, and in summary.txt; the exit status is the number of steps that failed.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/build/gpu out=gpu_check seconds=540 quick= model= mmproj= parts=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -h|--help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    --model) model=$2; shift 2 ;;
    --mmproj) mmproj=$2; shift 2 ;;
    right|fast|why) parts+=("$1"); shift ;;
    *) echo "gpu_check.sh: unknown argument '$1'" >&2; exit 2 ;;
  esac
done
[[ ${#parts[@]} -gt 0 ]] || parts=(right fast why)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -f $bin ]]; then
  mkdir "$scratch/bin"
  tar xf "$bin" -C "$scratch/bin" || { echo "gpu_check.sh: $bin is not an archive" >&2; exit 2; }
  bin=$scratch/bin
fi
glimpse=$bin/glimpse test_cuda=$bin/tests/test_cuda gpu_bench=$bin/bench/gpu_bench
for program in "$glimpse" "$test_cuda" "$gpu_bench"; do
  [[ -x $program ]] || { echo "gpu_check.sh: $program is missing: cmake --preset gpu && cmake --build --preset gpu" >&2; exit 2; }
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
export GLIMPSE_TEST_GPU=1 GLIMPSE_TEST_DATA=$root/tests
failed=0 summary=() now=

left() { echo $((seconds - SECONDS)); }
say() { summary+=("$1"); echo "$1"; }

# step NAME LIMIT PATTERN COMMAND...: output to NAME.txt in the scratch folder and behind a heading in the part's log,
# which grows while it runs. A step that does not say what is looked for has failed, whatever its status. Sets verdict
# and took.
step() {
  local name=$1 limit=$2 pattern=$3 start=$EPOCHREALTIME status
  shift 3
  verdict=
  if [[ $(left) -lt 1 ]]; then
    verdict='no time left' took=0
  else
    [[ $limit -lt $(left) ]] || limit=$(left)
    printf '\n== %s: %s\n' "$name" "$*" >>"$out/$now.log"
    timeout -k 3 "$limit" "$@" 2>&1 | tee "$scratch/$name.txt" >>"$out/$now.log"
    status=${PIPESTATUS[0]}
    took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
    case $status in
      0) if grep -qE -e "$pattern" "$scratch/$name.txt"; then verdict=ok; else verdict="nothing found"; fi ;;
      124|137) verdict="over $limit s" ;;
      *) verdict="failed ($status)" ;;
    esac
  fi
  printf '{"part": "%s", "step": "%s", "verdict": "%s", "seconds": %s}\n' "$now" "$name" "$verdict" "$took" >>"$out/steps.jsonl"
  [[ $verdict == ok ]] || failed=$((failed + 1))
  [[ $verdict == ok ]]
}
# shown NAME LIMIT PATTERN COMMAND...: a step, and the lines of its output that the summary repeats.
shown() {
  local name=$1 limit=$2 pattern=$3
  shift 3
  step "$name" "$limit" "$pattern" "$@"
  say "$(printf '%-20s %s, %s s' "$name" "$verdict" "$took")"
  [[ ! -f $scratch/$name.txt ]] || while IFS= read -r line; do say "    ${line:0:170}"; done < <(
    if [[ $verdict == ok ]]; then grep -E "$pattern" "$scratch/$name.txt" | sed 's/  */ /g; s/^| .* | \(tg\|pp\|img\)/\1/' | head -n 24; else tail -n 4 "$scratch/$name.txt"; fi)
}
# tests NAME LIMIT FILTER: a group of test_cuda; of a failure the tests' names, the first lines and the last test begun.
tests() {
  local name=$1 log=$scratch/$1.txt
  step "$name" "$2" '\[       OK \]|\[  SKIPPED \].*\(' "$test_cuda" --gtest_filter="$3"
  [[ -f $log ]] || { say "$(printf '%-20s %s' "$name" "$verdict")"; return; }
  say "$(printf '%-20s %s, %s s: %s ok, %s skipped' "$name" "$verdict" "$took" "$(grep -c '\[       OK \]' "$log")" \
                "$(grep -c '\[  SKIPPED \].*(' "$log")")"
  [[ $verdict == ok ]] && return
  say "    last begun: $(grep -F '[ RUN      ]' "$log" | tail -n 1)"
  while IFS= read -r line; do say "    ${line:0:170}"; done < <(
    grep -E '^\[  FAILED  \] .*\(' "$log" | head -n 12
    grep -m 3 -A 5 -E ': Failure|rror:' "$log" | cut -c1-170 | head -n 16)
}

# A model of real shapes and random weights, made while the tests run. A part that comes later finds it.
start_model() {
  [[ -z $model ]] || return 0
  model=/tmp/gpu_check.gguf mmproj=/tmp/gpu_check_mmproj.gguf
  [[ ! -s $model.done && ! -e $model.begun ]] || return 0
  GLIMPSE="$glimpse" setsid bash -c '"$GLIMPSE" synth --preset qwen2-vl-2b --type Q4_K_M -m "$0" --mmproj "$1" --force &&
    echo done >"$0.done"; echo "synth: rc $?, $SECONDS s"' "$model" "$mmproj" >/tmp/gpu_check_synth.log 2>&1 &
  echo $! >$model.begun
}
wait_for_model() {
  start_model
  [[ -s $model.begun ]] || return 0  # it was given
  while [[ ! -s $model.done && $(left) -gt 3 ]] && kill -0 "$(<"$model.begun")" 2>/dev/null; do sleep 0.5; done
  say "model: $(tail -n 1 /tmp/gpu_check_synth.log)"
  [[ -s $model.done ]] || failed=$((failed + 1))
}

device_facts() {
  { uname -r; nproc; command -v nvidia-smi >/dev/null && nvidia-smi &&
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu --format=csv; } \
    >>"$out/$now.log" 2>&1
  say "$(grep -m 1 -E '^NVIDIA' "$out/$now.log" || echo 'no nvidia-smi')"
}

# Where clusters are wrong or hang, everything that follows is about blocks alone.
check_clusters() {
  [[ -z ${GLIMPSE_CUDA_CLUSTERS:-} ]] || return 0
  tests clusters 30 'WarpgroupClusters.*:*ClusterTypes*'
  export GLIMPSE_CUDA_CLUSTERS=1
  [[ $verdict == ok ]] || { GLIMPSE_CUDA_CLUSTERS=0; say '    what follows is without clusters'; }
}

part_right() {
  device_facts
  start_model
  tests device 20 'Device.*:DevicePack.*:*DeviceWeight*:*DevicePlanes*'
  tests exact 30 '*CudaTypes.AreExact*'
  check_clusters
  tests oracle 40 '*CudaTypes.Multiply*'
  tests ring 40 'CudaRing*'
  tests cut 40 '*CudaTypes.Rows*'
  tests warpgroup 30 '*WarpgroupTypes*:Warpgroups.*:CudaChunks.*'
  tests fused 20 'CudaOps.*:CudaPatch*:Swizzle.*:TiledRows.*:CudaOperands.*:Ring.*:Bytes.*'
  tests attention 30 'CudaAttention.*:CudaCacheQ8.*:WarpgroupAttention.*'
  tests experts 30 'CudaExperts.*'
  tests sample 20 'DeviceSample.*:Ranked.*'
  tests step 30 'CudaStep.*:CudaRecording.*'
  tests golden 30 'Conversations*:*GoldenModel*'
  tests segments 30 '*SegmentBits*:*Passes*'
  tests pages 30 '*Pages*:*Family*'
  local demo=(-m "$root/models/demo-Q4_K_M.gguf" --mmproj "$root/models/mmproj-demo-f16.gguf" --cases "$root/models/heldout"
              --limit $((quick ? 1 : 8))) way
  for way in cpu 'cuda --cuda-decode launches' 'cuda --cuda-decode graph'; do
    shown "demo_${way##* }" 25 '^all ' "$glimpse" eval "${demo[@]}" --device $way
  done
}

# figure STEP NAME: a number of its JSON. tokens STEP: those of its answer.
figure() { sed -n "s/^ *\"$2\": \([0-9.]*\).*/\1/p" "$scratch/$1.txt" 2>/dev/null | head -n 1; }
tokens() { [[ -f $scratch/$1.txt ]] && tr -d ' \n' <"$scratch/$1.txt" | sed -n 's/.*"tokens":\[\([0-9,]*\)\].*/\1/p'; }
same() {
  if [[ -n $(tokens "$1") && $(tokens "$1") == "$(tokens "$2")" ]]; then
    say "$1 and $2: the same tokens"
  else
    say "$1 and $2 DIFFER"
    failed=$((failed + 1))
  fi
}

part_fast() {
  [[ " ${parts[*]} " == *' right '* ]] || device_facts
  check_clusters
  wait_for_model
  local way ask=("$glimpse" run -m "$model" --json -p) prompt='Tell me about this.' speed='"decode_tokens_per_second": [0-9]'
  for way in graph launches; do
    step "run_$way" 25 "$speed" "${ask[@]}" "$prompt" -n 128 --device cuda --cuda-decode $way
    say "$(printf '%-20s %s, %s s: %s tokens/s' "run_$way" "$verdict" "$took" "$(figure "run_$way" decode_tokens_per_second)")"
  done
  step run_drawn 25 "$speed" "${ask[@]}" "$prompt" -n 128 --device cuda --temp 0.8 --top-k 40 --top-p 0.95 --seed 1
  say "$(printf '%-20s %s, %s s: %s tokens/s' run_drawn "$verdict" "$took" "$(figure run_drawn decode_tokens_per_second)")"
  same run_graph run_launches
  local row='\| *(tg|pp|img)[0-9]' depths=0,3000 prompts=32,128,1024 images=448x448,1008x1008
  local more=(--image-max-tokens 1296)
  [[ -z $quick ]] || depths=0,100 prompts=16,32 images=60x40 more=(--no-roofline -r 1)
  for way in graph launches; do
    shown "bench_$way" 30 "$row" "$glimpse" bench -m "$model" --device cuda --cuda-decode $way -n 128 -p 0 -d $depths ${quick:+--no-roofline}
  done
  [[ -n $quick ]] || shown bench_together 25 "$row" "$glimpse" bench -m "$model" --device cuda --no-roofline -n 64 -p 0 -np 2,4,8
  shown bench_q8 25 "$row" "$glimpse" bench -m "$model" --device cuda --kv-type q8_0 --no-roofline -n 128 -p 0 -d ${depths#0,}
  shown bench_prefill 40 "$row" "$glimpse" bench -m "$model" --mmproj "$mmproj" --device cuda -n 0 -p $prompts -b 1024 \
    --image $images "${more[@]}"
  [[ -n $quick ]] || GLIMPSE_CUDA_CLUSTERS=0 shown bench_alone 30 "$row" "$glimpse" bench -m "$model" --mmproj "$mmproj" \
    --device cuda -n 0 -p ${prompts##*,} -b 1024 --image $images "${more[@]}" --no-roofline
  shown kernels 90 'roofline|copy' bash -c '"$0" 2>&1 >"$1"' "$gpu_bench" "$out/kernels.jsonl"
  [[ ! -f $scratch/kernels.txt ]] || while IFS= read -r line; do say "    ${line:0:170}"; done < <(
    grep -E '^(attention|attend_wg)' "$scratch/kernels.txt" | sed 's/  */ /g')
  if command -v python3 >/dev/null && python3 -c 'import torch' 2>/dev/null; then
    shown library 40 'us$' python3 "$(dirname "$0")/gpu_library.py"
  fi
}

part_why() {
  check_clusters
  wait_for_model
  local run=("$glimpse" run -m "$model" --device cuda) counters name
  counters=(ncu --clock-control none --section SpeedOfLight --section WarpStateStats --section LaunchStats --section Occupancy
            --metrics 'lts__t_bytes.sum,dram__bytes.sum,regex:smsp__average_warps_issue_stalled_.*_per_issue_active.ratio')
  if command -v ncu >/dev/null; then
    step ncu_decode 40 Duration "${counters[@]}" -k 'regex:gemv_|attend_rows' -s 12 -c 12 "${run[@]}" -p hi -n 8 --cuda-decode launches
    say "ncu_decode $verdict, $took s"
    step ncu_picture 40 Duration "${counters[@]}" -k 'regex:attend_tiles|attend_wa|gemm_wa|rows_t' -c 9 "${run[@]}" --mmproj "$mmproj" \
      --image "$root/tests/data/chelsea.jpg" -p x -n 1
    say "ncu_picture $verdict, $took s"
    step ncu_prefill 40 Duration "${counters[@]}" -k 'regex:gemm_wa' -s 40 -c 5 "$glimpse" bench -m "$model" --device cuda -n 0 \
      -p 1024 -b 1024 --no-roofline -r 1
    say "ncu_prefill $verdict, $took s"
    for name in ncu_decode ncu_picture ncu_prefill; do
      [[ ! -f $scratch/$name.txt ]] || while IFS= read -r line; do say "    ${line:0:150}"; done < <(
        grep -E 'Context|Duration|DRAM Throughput|Memory Throughput|Compute \(SM\) Throughput|Achieved Occupancy' \
          "$scratch/$name.txt" | sed 's/  */ /g' | head -n 40)
    done
  else
    say 'ncu is not on this machine'
  fi
  if command -v compute-sanitizer >/dev/null; then
    local small='*CudaTypes.AreExact*/Q4_K:*CudaTypes.AreExact*/BF16:CudaStep.Greedy*:DeviceSample.Greedy*'
    for name in memcheck racecheck; do
      shown "$name" 35 'ERROR SUMMARY|RACECHECK SUMMARY|PASSED' compute-sanitizer --tool "$name" --error-exitcode 9 \
        "$test_cuda" --gtest_filter="$small"
    done
  fi
}

: >"$out/steps.jsonl"
for now in "${parts[@]}"; do
  : >"$out/$now.log"
  say "---- $now"
  "part_$now"
done
[[ ! -f /tmp/gpu_check_synth.log ]] || cp /tmp/gpu_check_synth.log "$out/synth.log"
printf '%s\n' "${summary[@]}" >"$out/summary.txt"
echo
echo "$failed steps failed, $SECONDS s; the logs are in $out"
exit "$failed"
