"""Prints the tables of models/README.md: training, accuracy per task with 95% intervals, for each way of running."""
import argparse
import json
import os


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", required=True, help="state.json of export.py")
    p.add_argument("--measured", required=True)
    p.add_argument("--runs", nargs="*", default=[])
    args = p.parse_args()
    with open(args.state, encoding="utf-8") as file:
        state = json.load(file)
    print(f"Trained: {state['step']} steps, {state['pictures']} pictures, {state['questions']} questions, "
          f"{state['seconds'] / 3600:.1f} hours\n")
    columns = []
    with open(args.measured, encoding="utf-8") as file:
        columns.append(("transformers, f32", json.load(file)["tasks"]))
    for path in args.runs:
        with open(path, encoding="utf-8") as file:
            columns.append((os.path.basename(path).removesuffix(".json"), json.load(file)["tasks"]))
    print("| task | cases | " + " | ".join(name for name, _ in columns) + " | 95% interval |")
    print("|---|---|" + "---|" * (len(columns) + 1))
    for task, row in columns[0][1].items():
        low, high = row["interval"]
        cells = " | ".join(f"{100 * c[task]['accuracy']:.1f}%" for _, c in columns)
        print(f"| {task} | {row['cases']} | {cells} | {100 * low:.0f} to {100 * high:.0f}% |")


if __name__ == "__main__":
    main()
