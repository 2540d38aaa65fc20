#!/usr/bin/env bash
# Everything that needs a GPU, with one command, on a machine where nothing is built or installed.
#
#   bench/gpu_check.sh [--bin DIR] [--out DIR] [--quick] [--only REGEX] [--sanitizer PROGRAM]
#
# --bin: the programs of the preset gpu, built beforehand (build/gpu); --out: for JSON and logs (gpu_check);
# --quick: no sanitizers, a small model; --only: parts whose whole name matches, where a visit is short (the model is
# made when it is not there yet); --sanitizer: compute-sanitizer, else that of PATH or of a toolkit; its wheel on PyPI,
# nvidia-cuda-sanitizer-api, unpacked, can be carried along. Each part has its own time limit and runs whatever became
# of the others. The last lines are a table; the exit status is the number of parts that failed.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/build/gpu out=gpu_check quick= only='.*' sanitizer=
while [[ $# -gt 0 ]]; do
  case $1 in
    -h|--help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --bin) bin=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    --only) only=$2; shift 2 ;;
    --sanitizer) sanitizer=$2; shift 2 ;;
    *) echo "gpu_check.sh: unknown argument '$1'" >&2; exit 2 ;;
  esac
done
glimpse=$bin/glimpse test_cuda=$bin/tests/test_cuda gpu_bench=$bin/bench/gpu_bench
for program in "$glimpse" "$test_cuda" "$gpu_bench"; do
  [[ -x $program ]] || { echo "gpu_check.sh: $program is missing: cmake --preset gpu && cmake --build --preset gpu" >&2; exit 2; }
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
export GLIMPSE_TEST_GPU=1 GLIMPSE_TEST_DATA=$root/tests
failed=0
table=()

# part NAME SECONDS COMMAND...: output to NAME.log
part() {
  local name=$1 limit=$2 start status seconds verdict
  shift 2
  [[ $name =~ ^($only)$ ]] || return 0
  start=$(date +%s.%N)
  timeout "$limit" "$@" >"$out/$name.log" 2>"$out/$name.err"
  status=$?
  seconds=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
  case $status in
    0) verdict=ok ;;
    124) verdict="over $limit s" failed=$((failed + 1)) ;;
    *) verdict="failed ($status)" failed=$((failed + 1)) ;;
  esac
  table+=("$(printf '%-28s %-14s %8s s  %s' "$name" "$verdict" "$seconds" "$(tail -n 1 "$out/$name.log" | cut -c1-100)")")
  printf '{"part": "%s", "status": %d, "seconds": %s}\n' "$name" "$status" "$seconds" >>"$out/parts.jsonl"
  return $status
}
[[ $only != '.*' ]] || : >"$out/parts.jsonl"

command -v nvidia-smi >/dev/null && nvidia-smi >"$out/nvidia-smi.txt" 2>&1
part correctness 240 "$test_cuda" --gtest_brief=1 --gtest_filter='-HostExecutor.*:HostHopper.*:PtxasReport.*:Sass.*:CudaRecording.NothingBut*'
part bench 180 "$gpu_bench"

# Answers of the CPU and of the GPU to the same questions, greedy.
model=$out/model.gguf mmproj=$out/mmproj.gguf preset=qwen2-vl-2b
[[ -z $quick ]] || preset=tiny
if [[ ! -s $model || ! -s $mmproj ]]; then
  only="$only|synth" part synth 240 "$glimpse" synth --preset "$preset" --type Q4_K_M -m "$model" --mmproj "$mmproj" --force
fi
n_words=$([[ -z $quick ]] && echo 1000 || echo 250)
words=$(yes 'word' | head -n "$n_words" | tr '\n' ' ')
ask=("$glimpse" run -m "$model" --json -p)
part decode_graph 120 "${ask[@]}" 'What is this?' -n 256 --device cuda --cuda-decode graph
part decode_launches 120 "${ask[@]}" 'What is this?' -n 256 --device cuda --cuda-decode launches
part decode_persistent 120 "${ask[@]}" 'What is this?' -n 256 --device cuda --cuda-decode persistent
part decode_graph_4k 120 "${ask[@]}" "$words $words $words" -n 256 -c 4096 -b 1024 --device cuda --cuda-decode graph
part decode_launches_4k 120 "${ask[@]}" "$words $words $words" -n 256 -c 4096 -b 1024 --device cuda --cuda-decode launches
part decode_persistent_4k 120 "${ask[@]}" "$words $words $words" -n 256 -c 4096 -b 1024 --device cuda --cuda-decode persistent
part decode_graph_q8 120 "${ask[@]}" "$words" -n 256 -c 4096 -b 1024 --device cuda --kv-type q8_0 --cuda-decode graph
part decode_launches_q8 120 "${ask[@]}" "$words" -n 256 -c 4096 -b 1024 --device cuda --kv-type q8_0 --cuda-decode launches
part decode_persistent_q8 120 "${ask[@]}" "$words" -n 256 -c 4096 -b 1024 --device cuda --kv-type q8_0 --cuda-decode persistent
part decode_graph_drawn 120 "${ask[@]}" 'What is this?' -n 256 --device cuda --temp 0.8 --top-k 40 --top-p 0.95 --seed 1
part decode_graph_drawn_again 120 "${ask[@]}" 'What is this?' -n 256 --device cuda --temp 0.8 --top-k 40 --top-p 0.95 --seed 1
part prefill_gpu 120 "${ask[@]}" "$words" -n 2 -c 4096 -b 1024 --device cuda
part answer_cpu 180 "${ask[@]}" 'What is this?' -n 8 --device cpu
part answer_gpu 120 "${ask[@]}" 'What is this?' -n 8 --device cuda
picture=$root/tests/data/chelsea.jpg
see=("$glimpse" run -m "$model" --mmproj "$mmproj" --image "$picture" -p 'What is this?' -n 8 --json --device cuda)
part image_448_gpu 120 "${see[@]}" --image-min-tokens 240 --image-max-tokens 256
part image_1008_gpu 120 "${see[@]}" --image-min-tokens 1250 --image-max-tokens 1296

# The whole model as `glimpse bench` reports it, with percentages of this GPU's roofline.
part bench_model 180 "$glimpse" bench -m "$model" --mmproj "$mmproj" --device cuda
part bench_persistent 120 "$glimpse" bench -m "$model" --device cuda --cuda-decode persistent -n 128 -p 0
part bench_model_q8 120 "$glimpse" bench -m "$model" --device cuda --kv-type q8_0 -n 128 -p 512

# Small sizes only: the tools slow kernels down by orders of magnitude.
if [[ -z $quick ]]; then
  [[ -n $sanitizer ]] || sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
  if [[ -n $sanitizer ]]; then
    small='CudaTypes/*AreExact*:*CudaTypes*AreExact*:CudaOps.*:DeviceSample.Greedy*:CudaAttention.Large*:CudaCacheQ8.Extreme*:CudaStep.*:CudaRecording.*:-CudaRecording.NothingBut*'
    for tool in memcheck racecheck synccheck initcheck; do
      part "sanitizer_$tool" 150 "$sanitizer" --tool "$tool" --error-exitcode 9 "$test_cuda" --gtest_brief=1 --gtest_filter="$small"
    done
  else
    table+=("$(printf '%-28s %s' sanitizers 'compute-sanitizer is not on this machine')")
  fi
fi

echo
[[ -f $out/bench.err ]] && cat "$out/bench.err"
echo
cat "$out/bench_model.log" "$out/bench_persistent.log" "$out/bench_model_q8.log" 2>/dev/null
echo
figure() { sed -n "s/^ *\"$2\": \([0-9.]*\).*/\1/p" "$out/$1.log" 2>/dev/null | head -n 1; }
for way in decode_{graph,persistent,launches}{,_4k,_q8} decode_graph_drawn; do
  printf '%-28s %s tokens/s\n' "$way" "$(figure $way decode_tokens_per_second)"
done
printf '%-28s %s ms, %s tokens\n' 'prefill' "$(figure prefill_gpu prefill_ms)" "$(figure prefill_gpu prompt_tokens)"
printf '%-28s %s ms, %s tokens\n' 'image, about 448 x 448' "$(figure image_448_gpu image_encode_ms)" "$(figure image_448_gpu image_tokens)"
printf '%-28s %s ms, %s tokens\n' 'image, about 1008 x 1008' "$(figure image_1008_gpu image_encode_ms)" "$(figure image_1008_gpu image_tokens)"
answers() { [[ -f $out/$1.log ]] && tr -d ' \n' <"$out/$1.log" | sed -n 's/.*"tokens":\[\([0-9,]*\)\].*/\1/p'; }
# same WHAT PART PART: both parts answered, with the same tokens
same() {
  [[ $only == '.*' || -f $out/$2.log && -f $out/$3.log ]] || return 0  # not of this visit
  if [[ -n $(answers "$2") && $(answers "$2") == "$(answers "$3")" ]]; then
    echo "$1: the same tokens"
  else
    echo "$1 differ: see $2.log and $3.log"
    failed=$((failed + 1))
  fi
}
same 'graph and launches, 256 tokens' decode_graph decode_launches
same 'graph and persistent, 256 tokens' decode_graph decode_persistent
same 'graph and persistent, long context' decode_graph_4k decode_persistent_4k
same 'graph and persistent, cache of q8_0' decode_graph_q8 decode_persistent_q8
same 'graph and launches, long context' decode_graph_4k decode_launches_4k
same 'graph and launches, cache of q8_0' decode_graph_q8 decode_launches_q8
same 'two answers drawn with one seed' decode_graph_drawn decode_graph_drawn_again
if [[ $only != '.*' && ! -f $out/answer_cpu.log ]]; then
  :
elif [[ -n $(answers answer_cpu) && $(answers answer_cpu) == "$(answers answer_gpu)" ]]; then
  echo 'CPU and GPU answer alike'
else
  echo "CPU and GPU differ: $(answers answer_cpu) and $(answers answer_gpu)"
fi
echo
printf '%s\n' "${table[@]}"
[[ $only != '.*' ]] || rm -f "$model" "$mmproj"
exit "$failed"
