#!/usr/bin/env python3
"""glimpse and builds of llama-bench in turn on the same files: medians, ratios and the memory's rate beside them.

  bench/peers.py -m MODEL... --peer NAME=LLAMA_BENCH... [--glimpse FILE] [-n 24] [-p 0] [-d 0] [-t 1,2] [-r 5] [--isa avx2]

Every round runs each program once (one repetition, after its own warm-up) and begins with another one, so that none
always meets what the one before left. Nothing else may run on the machine. A line per file and number of threads:
tokens/s of each, ratio to each peer (median, least - most of the rounds), GB/s that one or all threads read just before
glimpse ran, and how much of it glimpse's decode used.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys


def run(command, isa=None):
    environment = dict(os.environ)
    if isa:
        environment["GLIMPSE_FORCE_ISA"] = isa
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    start = done.stdout.find("[\n")  # some print their CPU before
    if done.returncode != 0 or start < 0:
        sys.exit(f"{' '.join(command)}: {done.stderr[-800:]}")
    return json.loads(done.stdout[start:])[-1]


def test_arguments(options):
    return ["-p", str(options.prompt), "-n", str(options.generate), *(["-d", str(options.depth)] if options.depth else []), "-r", "1", "-o", "json"]


def measure(options, model, threads, peers):
    """A list of rounds: {program: tokens/s} and glimpse's roofline."""
    rounds = []
    programs = [("glimpse", options.glimpse), *peers.items()]
    for number in range(options.rounds):
        rates, roof = {}, {}
        turn = number % len(programs)
        for name, program in programs[turn:] + programs[:turn]:
            mine = name == "glimpse"
            command = [program] + (["bench"] if mine else []) + ["-m", model, "-t", str(threads), *test_arguments(options)]
            result = run(command, options.isa if mine else None)
            rates[name] = result["avg_ts"]
            if mine:
                roof = result
        rounds.append((rates, roof))
    return rounds


def report(options, model, threads, rounds, peers):
    median = statistics.median
    name = os.path.basename(model) + (f" {options.isa}" if options.isa else "")
    test = f"pp{options.prompt}" if options.prompt else f"tg{options.generate}"
    if options.depth:
        test += f"@{options.depth}"
    text = f"{name} {test} t{threads}: glimpse {median(rates['glimpse'] for rates, _ in rounds):.1f}"
    for peer in peers:
        ratios = [rates["glimpse"] / rates[peer] for rates, _ in rounds]
        text += (f"; {peer} {median(rates[peer] for rates, _ in rounds):.1f}, ratio {median(ratios):.2f}"
                 f" ({min(ratios):.2f} - {max(ratios):.2f})")
    roofs = [roof.get("roof_gbs") or 0 for _, roof in rounds]
    shares = [roof.get("pct_roofline") or 0 for _, roof in rounds]
    print(f"{text}; memory {median(roofs):.1f} GB/s ({min(roofs):.0f} - {max(roofs):.0f}), "
          f"of the roof {median(shares):.0f} % ({min(shares):.0f} - {max(shares):.0f}), {len(rounds)} rounds", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", nargs="+", required=True, help="text models, GGUF")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE", help="a llama-bench; may be given several times")
    parser.add_argument("--glimpse", default="build/release/glimpse")
    parser.add_argument("-p", "--prompt", type=int, default=0, help="tokens of a prompt; then nothing is generated")
    parser.add_argument("-n", "--generate", type=int, default=24, help="tokens generated one by one")
    parser.add_argument("-d", "--depth", type=int, default=0, help="tokens in the context before")
    parser.add_argument("-t", "--threads", default="1,2", help="a list")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--isa", help="GLIMPSE_FORCE_ISA for glimpse")
    options = parser.parse_args()
    if options.prompt:
        options.generate = 0
    for item in options.peer:
        if "=" not in item or item.startswith(("=", "glimpse=")):
            parser.error(f"--peer {item}: want NAME=FILE, and another name than glimpse")
    peers = dict(item.split("=", 1) for item in options.peer)
    if len(peers) < len(options.peer):
        parser.error("two peers of one name")
    for model in options.model:
        for threads in options.threads.split(","):
            report(options, model, int(threads), measure(options, model, int(threads), peers), peers)


if __name__ == "__main__":
    main()
