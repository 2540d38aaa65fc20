#include "tools/cli/llama_flags.h"

#include <string_view>
#include <utility>
#include <vector>

namespace glimpse::cli {
namespace {

using Kind = LlamaFlag::Kind;

struct Row {
  const char* names;  // separated by blanks
  LlamaFlag flag;
};

constexpr const char* kNoNetwork =
    "nothing is fetched from a network: download the files and name them with -m and --mmproj";
constexpr const char* kOneDevice = "a model is on one device as a whole: --device cpu, cuda or auto";
constexpr const char* kNoSampler =
    "there is no such sampler: --temp, --top-k, --top-p, --min-p and the penalties are there";
constexpr const char* kNoAdapter = "adapters are not read: merge it into the model first";
constexpr const char* kOneDraftModel = "the draft model runs where and as the model does";
constexpr const char* kDraftProbability =
    "--draft-min-p P ends a draft where it is less likely than P that all of it is right; 0 chooses P";
constexpr const char* kPositions = "positions are the model's own";
constexpr const char* kOneQuestion = "it asks one question";
constexpr const char* kManyQuestions = "it asks one question: glimpse batch asks many together (--parallel)";
constexpr const char* kThreadPlace = "threads run where the system puts them: taskset and numactl choose";
constexpr const char* kAttention =
    "attention always goes through its keys block by block, there is no other way to turn to";

// Source: llama.cpp common/arg.cpp, tools/llama-bench and tools/mtmd, as of 0c1e57098.
const Row kRows[] = {
    {"-sys --system-prompt", {Kind::kOurs, false, "--system"}},
    {"-ngl --n-gpu-layers", {Kind::kOurs, false, "--gpu-layers"}},
    {"-dev", {Kind::kOurs, false, "--device"}},
    {"-ctk --cache-type-k", {Kind::kOurs, false, "--kv-type"}},
    {"-mm", {Kind::kOurs, false, "--mmproj"}},
    {"-pg", {Kind::kOurs, false, "--pg"}},
    {"-np -npl", {Kind::kOurs, false, "--parallel"}},
    {"-ub --ubatch-size", {Kind::kOurs, false, "--batch-size"}},
    {"-md --model-draft --spec-draft-model", {Kind::kOurs, false, "--draft-model"}},
    {"--draft --draft-max --draft-n --spec-draft-n-max", {Kind::kOurs, false, "--draft-tokens"}},
    {"--predict", {Kind::kOurs, false, "--n-predict"}},
    {"--temperature", {Kind::kOurs, false, "--temp"}},
    {"-l", {Kind::kOurs, false, "--logit-bias"}},
    {"-v --log-verbose", {Kind::kOurs, false, "--verbose"}},
    {"-sp", {Kind::kOurs, false, "--special"}},
    {"-r --reverse-prompt", {Kind::kOurs, false, "--stop"}},
    {"-j -jf --json-schema-file", {Kind::kOurs, false, "--json-schema"}},
    {"--grammar-file", {Kind::kOurs, false, "--grammar"}},

    {"-fa --flash-attn", {Kind::kNothing, true, kAttention}},
    {"--no-mmap -st --single-turn -no-cnv --no-conversation --jinja --no-warmup --no-display-prompt --log-disable "
     "--no-perf "
     "--no-escape --no-context-shift --no-color --offline --simple-io",
     {Kind::kNothing, false, ""}},

    {"-ctv --cache-type-v",
     {Kind::kRefused, false, "keys and values have one type: give the same to -ctk (--kv-type)"}},
    {"-hf -hfr --hf-repo -hff --hf-file -hft --hf-token -mu --model-url -mmu --mmproj-url -dr --docker-repo",
     {Kind::kRefused, false, kNoNetwork}},
    {"-sm --split-mode -ts --tensor-split -mg --main-gpu -ot --override-tensor -cmoe --cpu-moe -ncmoe --n-cpu-moe "
     "-nkvo "
     "--no-kv-offload --no-mmproj-offload --no-op-offload --rpc",
     {Kind::kRefused, false, kOneDevice}},
    {"--samplers --sampler-seq --typical --xtc-probability --xtc-threshold --mirostat --mirostat-lr --mirostat-ent "
     "--dynatemp-range --dynatemp-exp --dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n "
     "--dry-sequence-breaker --top-nsigma --top-n-sigma",
     {Kind::kRefused, false, kNoSampler}},
    {"--lora --lora-scaled --control-vector --control-vector-scaled", {Kind::kRefused, false, kNoAdapter}},
    {"-cd --ctx-size-draft -ngld -devd -td -ctkd -ctvd", {Kind::kRefused, false, kOneDraftModel}},
    {"--draft-min --draft-n-min --draft-p-min --spec-draft-n-min --spec-draft-p-min",
     {Kind::kRefused, false, kDraftProbability}},
    {"--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor "
     "--yarn-attn-factor --yarn-beta-slow --yarn-beta-fast",
     {Kind::kRefused, false, kPositions}},
    {"-cnv --conversation -i --interactive -if --interactive-first -mli --multiline-input",
     {Kind::kRefused, false, "it asks one question, glimpse chat goes on"}},
    {"--numa -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll", {Kind::kRefused, false, kThreadPlace}},
    {"-tb --threads-batch", {Kind::kRefused, false, "prompt and answer run on the same threads: -t"}},
    {"--mlock", {Kind::kRefused, false, "memory is not locked"}},
    {"--chat-template --chat-template-file",
     {Kind::kRefused, false, "the chat format is the model's; --raw gives the model a prompt as it is"}},
    {"-sysf --system-prompt-file", {Kind::kRefused, false, "give the text: --system \"$(cat FILE)\""}},
    {"-bf --binary-file", {Kind::kRefused, false, "a question is text: -f FILE"}},
    {"-e --escape",
     {Kind::kRefused, false, "the question is taken as it is typed; in bash $'...\\n' writes a line end"}},
    {"--ignore-eos", {Kind::kRefused, false, "--logit-bias ID-inf forbids the token that ends an answer"}},
    {"--parallel -ns --sequences -cb --cont-batching", {Kind::kRefused, false, kManyQuestions}},
    {"--keep --context-shift --in-prefix --in-suffix --prompt-cache", {Kind::kRefused, false, kOneQuestion}},
    {"--audio", {Kind::kRefused, false, "glimpse sees pictures, it does not hear"}},
};

// Names with their rows, made once.
const std::vector<std::pair<std::string, const LlamaFlag*>>& table() {
  static const auto made = [] {
    std::vector<std::pair<std::string, const LlamaFlag*>> all;
    for (const Row& row : kRows) {
      std::string_view rest = row.names;
      while (!rest.empty()) {
        const size_t n = rest.find(' ');
        all.emplace_back(rest.substr(0, n), &row.flag);
        rest.remove_prefix(n == std::string_view::npos ? rest.size() : n + 1);
      }
    }
    return all;
  }();
  return made;
}

}  // namespace

const LlamaFlag* find_llama_flag(const std::string& name) {
  for (const auto& [known, flag] : table()) {
    if (known == name) return flag;
  }
  return nullptr;
}

}  // namespace glimpse::cli
