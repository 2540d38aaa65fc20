#!/usr/bin/env python3
"""Tokens per second with drafts and without, in turn: glimpse, and llama.cpp's server beside it.

    bench/drafts.py --glimpse build/release/glimpse -m model.gguf -md small.gguf [--llama-server PATH] [--rounds 5]

One line of text per run; then, for each prompt, medians, ratios to the run without drafts, drafts accepted. That greedy
answers are the same tokens whatever drafts is checked as well. Give the machine nothing else to do.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request

LRU = """class LruCache:
    def __init__(self, capacity):
        self.capacity = capacity
        self.items = {}
        self.order = []

    def get(self, key):
        if key not in self.items:
            return None
        self.order.remove(key)
        self.order.append(key)
        return self.items[key]

    def put(self, key, value):
        if key in self.items:
            self.order.remove(key)
        elif len(self.items) >= self.capacity:
            oldest = self.order.pop(0)
            del self.items[oldest]
        self.items[key] = value
        self.order.append(key)
"""
PROMPTS = {
    "code": "Write a C++ class template for a thread-safe bounded queue with push, pop, try_pop and close, and a main() "
            "with two producers and two consumers that tests it. Code only.",
    "edit": "Rename the method `get` to `lookup` and `put` to `store` in this class, add a method `clear`, and give back "
            "the whole class:\n\n" + LRU,
    "prose": "Tell in plain prose, without lists, how the steam engine changed the life of people in the towns of the "
             "nineteenth century.",
}


def ways(args):
    draft = ["-md", args.draft_model, "--draft-tokens", str(args.draft_tokens)]
    if args.draft_min_p is not None:
        draft += ["--draft-min-p", str(args.draft_min_p)]
    lookup = ["--speculate", str(args.speculate)]
    return {"plain": [], "lookup": lookup, "draft": draft, "both": lookup + draft}


def run_glimpse(args, prompt, more):
    command = [args.glimpse, "run", "-m", args.model, "-p", prompt, "-n", str(args.n_predict), "-t", str(args.threads),
               "--temp", str(args.temp), "--seed", "1", "--json", *more]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    t = said["timings"]
    return {"tokens": said["tokens"], "rate": t["decode_tokens_per_second"], "drafted": t["drafted_tokens"],
            "accepted": t["accepted_tokens"]}


class LlamaServer:
    def __init__(self, args, drafts):
        command = [args.llama_server, "-m", args.model, "-t", str(args.threads), "-c", "4096", "-np", "1", "--port",
                   str(args.port), "--no-webui"]
        if drafts:
            command += ["-md", args.draft_model, "--spec-type", "draft-simple", "--spec-draft-threads", str(args.threads), *args.llama_more.split()]
        self.url = f"http://127.0.0.1:{args.port}"
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/health", timeout=1).read()
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit("llama-server ended: " + " ".join(command))
                time.sleep(0.1)

    def ask(self, args, prompt):
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": args.n_predict,
                "temperature": args.temp, "seed": 1, "cache_prompt": False}
        request = urllib.request.Request(self.url + "/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        t = json.load(urllib.request.urlopen(request, timeout=600))["timings"]
        return {"rate": t["predicted_per_second"], "drafted": t.get("draft_n", 0),
                "accepted": t.get("draft_n_accepted", 0)}

    def close(self):
        self.process.terminate()
        self.process.wait()


def measure(args):
    runs = {}

    def note(prompt, way, result):
        runs.setdefault((prompt, way), []).append(result)
        print(f"{prompt:6} {way:12} {result['rate']:7.2f} tokens/s  drafted {result['drafted']:4} accepted "
              f"{result['accepted']:4}", flush=True)

    for _ in range(args.rounds):
        for name in args.prompts.split(","):
            for way, more in ((way, ways(args)[way]) for way in args.ways.split(",")):
                note(name, way, run_glimpse(args, PROMPTS[name], more))
        for way in ("llama plain", "llama draft") if args.llama_server else ():
            server = LlamaServer(args, way == "llama draft")
            try:
                for name in args.prompts.split(","):
                    note(name, way, server.ask(args, PROMPTS[name]))
            finally:
                server.close()
    return runs


def report(args, runs):
    print("\n| prompt | way | tokens/s | times plain | drafted | accepted |\n|---|---|---|---|---|---|")
    for (name, way), results in runs.items():
        rate = statistics.median(r["rate"] for r in results)
        plain = runs.get((name, "llama plain" if way.startswith("llama") else "plain"))
        ratio = f"{rate / statistics.median(r['rate'] for r in plain):.2f}" if plain else "-"
        drafted, accepted = results[0]["drafted"], results[0]["accepted"]
        share = f" ({100 * accepted / drafted:.0f} %)" if drafted else ""
        print(f"| {name} | {way} | {rate:.1f} | {ratio} | {drafted} | {accepted}{share} |")
    for name in args.prompts.split(","):
        said = [r["tokens"] for (prompt, _), results in runs.items() if prompt == name for r in results if "tokens" in r]
        if any(tokens != said[0] for tokens in said):
            sys.exit(f"{name}: answers differ")
    print("\nall answers of a prompt are the same tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--glimpse", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-md", "--draft-model", required=True)
    parser.add_argument("--llama-server")
    parser.add_argument("--llama-more", default="", help="further options of llama-server with drafts")
    parser.add_argument("--port", type=int, default=18473)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", default="code,edit,prose")
    parser.add_argument("--ways", default="plain,lookup,draft,both")
    parser.add_argument("--speculate", type=int, default=4)
    parser.add_argument("--draft-tokens", type=int, default=8)
    parser.add_argument("--draft-min-p", type=float)
    parser.add_argument("--temp", type=float, default=0)
    parser.add_argument("-n", "--n-predict", type=int, default=200)
    parser.add_argument("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    for word, known in [(word, PROMPTS) for word in args.prompts.split(",")] + [(word, ways(args)) for word in args.ways.split(",")]:
        if word not in known:
            parser.error(f"{word!r} is none of {', '.join(known)}")
    report(args, measure(args))


if __name__ == "__main__":
    main()
