#!/usr/bin/env python3
"""Random JSON schemas with instances, judged by jsonschema, for tests/constrain/json_schema_test.cpp.

  make_schemas.py fixtures N SEED > data/schemas.jsonl     schemas and instances with jsonschema's verdicts
  make_schemas.py schemas N SEED > schemas.jsonl           schemas alone, for GLIMPSE_SCHEMAS (see the test)
  make_schemas.py validate answers.jsonl                   what that test drew: every answer must validate

Each line: {"schema": .., "instances": [{"text": .., "valid": .., "written": ..}]}. "written": made by walking down the
schema as answers are (members in their order, none that the schema does not name), so that it must be accepted.
Needs: jsonschema 4.26 with rfc3339-validator, fqdn, rfc3987 and isoduration, so that formats are judged too.
"""

import json
import random
import sys

import jsonschema

WORDS = ["a", "b", "name", "bbox", "é", "日本", "x y", "q\"uote", "back\\slash", "tab\t", "0", "list", "Zz"]


def dump(value):
    return json.dumps(value, ensure_ascii=False)


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.defs = {}

    def string(self, low=0, high=8):
        return "".join(self.r.choice("abcXYZ019 _-é日😀\"\\\n/") for _ in range(self.r.randint(low, high)))

    def number_schema(self):
        r = self.r
        kind = r.choice(["integer", "integer", "number"])
        schema = {"type": kind}
        low, high = sorted([r.randint(-1200, 1200), r.randint(-1200, 1200)])
        if kind == "number" and r.random() < 0.6:
            low, high = low / r.choice([1, 4, 10, 100]), high / r.choice([1, 8, 10])
            low, high = min(low, high), max(low, high)
        if r.random() < 0.5:
            schema[r.choice(["minimum", "minimum", "exclusiveMinimum"])] = low
        if r.random() < 0.5:
            schema[r.choice(["maximum", "maximum", "exclusiveMaximum"])] = high + (2 if kind == "integer" else 0)
        if kind == "integer" and r.random() < 0.2:
            schema["multipleOf"] = r.choice([2, 3, 5, 7, 12, 100])
        return schema

    def string_schema(self):
        r = self.r
        schema = {"type": "string"}
        pick = r.random()
        if pick < 0.3:
            low = r.randint(0, 4)
            schema["minLength"] = low
            if r.random() < 0.7:
                schema["maxLength"] = low + r.randint(0, 5)
        elif pick < 0.45:
            schema["pattern"] = r.choice(["^[a-c]{2,4}$", "^(yes|no)$", "[0-9]{3}", "^é+", "x$", "^\\d{2}-\\w+$", "^\"[^\"]*\"$", "^.{1,5}$", "a|^b$"])
        elif pick < 0.55:
            schema["format"] = r.choice(["date", "time", "date-time", "uuid", "ipv4", "email", "ipv6", "hostname"])
        return schema

    def schema(self, depth):
        r = self.r
        pick = r.random()
        if depth == 0 or pick < 0.4:
            schema = r.choice([self.number_schema, self.string_schema, self.string_schema, lambda: {"type": "boolean"},
                               lambda: {"type": "null"},
                               lambda: {"enum": r.sample(WORDS, 3) + [r.randint(0, 99), None, True, [1, {"k": "v"}]][: r.randint(0, 4)]},
                               lambda: {"const": r.choice(WORDS + [7, 1.5, {"a": []}])}])()
        elif pick < 0.62:
            names = r.sample(WORDS, r.randint(0, 4))
            schema = {"type": "object", "properties": {n: self.schema(depth - 1) for n in names},
                      "required": [n for n in names if r.random() < 0.6]}
            rest = r.random()
            if rest < 0.6:
                schema["additionalProperties"] = False
            elif rest < 0.75:
                schema["additionalProperties"] = self.schema(0)
            elif rest < 0.85:
                schema["additionalProperties"] = True
            if r.random() < 0.1:
                schema["required"] = schema["required"] + ["needed"]
                if schema.get("additionalProperties") is False:
                    del schema["additionalProperties"]
        elif pick < 0.78:
            schema = {"type": "array"}
            if r.random() < 0.8:
                schema["items"] = self.schema(depth - 1)
            if r.random() < 0.25:
                schema["prefixItems"] = [self.schema(depth - 1) for _ in range(r.randint(1, 3))]
            low = r.randint(0, 3)
            if r.random() < 0.5:
                schema["minItems"] = low
            if r.random() < 0.5:
                schema["maxItems"] = low + r.randint(0, 3)
        elif pick < 0.88:
            schema = {"anyOf": [self.schema(depth - 1) for _ in range(r.randint(1, 3))]}
        elif pick < 0.92:
            names = r.sample(["cat", "dog", "bird"], 2)
            schema = {"oneOf": [{"type": "object", "properties": {"kind": {"const": n}, "v": self.schema(depth - 1)},
                                 "required": ["kind"], "additionalProperties": False} for n in names]}
        elif pick < 0.96:
            schema = {"allOf": [{"type": "object", "properties": {"p": self.schema(depth - 1)}, "required": ["p"]},
                                {"properties": {"q": self.schema(depth - 1), "p": True}}]}
        else:
            name = "d%d" % r.randint(0, 2)
            if name not in self.defs:
                self.defs[name] = None
                self.defs[name] = {"type": "object", "properties": {"v": self.schema(0), "next": {"anyOf": [{"$ref": "#/$defs/" + name}, {"type": "null"}]}},
                                   "required": ["v", "next"], "additionalProperties": False}
            schema = {"$ref": "#/$defs/" + name}
        if r.random() < 0.15:
            schema["description"] = "what it is"
        if r.random() < 0.05:
            schema["default"] = None
        return schema

    def whole(self):
        self.defs = {}
        schema = self.schema(self.r.randint(1, 3))
        if self.defs:
            schema["$defs"] = self.defs
        return schema

    # -- instances

    def any_value(self, depth=2):
        r = self.r
        pick = r.randint(0, 6 if depth > 0 else 4)
        if pick == 0:
            return r.randint(-1500, 1500)
        if pick == 1:
            return self.string()
        if pick == 2:
            return r.choice([True, False, None])
        if pick == 3:
            return round(r.uniform(-300, 300), r.randint(1, 4))
        if pick == 4:
            return r.choice(WORDS)
        if pick == 5:
            return [self.any_value(depth - 1) for _ in range(r.randint(0, 3))]
        return {r.choice(WORDS): self.any_value(depth - 1) for _ in range(r.randint(0, 3))}

    def written(self, schema, root, depth=0):
        """A value as an answer would have it, or ValueError."""
        r = self.r
        if schema is True:
            return self.any_value(1)
        if schema is False or depth > 12:
            raise ValueError
        if "$ref" in schema:
            target = root
            for key in schema["$ref"].split("/")[1:]:
                target = target[key]
            return self.written(target, root, depth + 1)
        if "allOf" in schema:
            raise ValueError
        for key in ("anyOf", "oneOf"):
            if key in schema:
                branch = r.choice(schema[key]) if depth < 6 else schema[key][-1]
                return self.written(branch, root, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return r.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "null":
            return None
        if kind == "boolean":
            return r.choice([True, False])
        if kind == "string":
            if "pattern" in schema or "format" in schema:
                raise ValueError
            low = schema.get("minLength", 0)
            return self.string(low, schema.get("maxLength", low + 8))
        if kind in ("integer", "number"):
            for _ in range(200):
                low = schema.get("minimum", schema.get("exclusiveMinimum", -2000))
                high = schema.get("maximum", schema.get("exclusiveMaximum", low + 3000))
                value = r.randint(int(low) - 1, int(high) + 1)
                if kind == "number":
                    value = round(r.uniform(low, high), r.randint(0, 4)) if r.random() < 0.7 else float(value)
                    if r.random() < 0.3:
                        value = int(value)
                if not list(jsonschema.Draft202012Validator(schema).iter_errors(value)):
                    text = json.dumps(value)
                    if "e" not in text and text != "-0.0":
                        return value
            raise ValueError
        if kind == "object":
            result = {}
            for name, inner in schema.get("properties", {}).items():
                if name in schema.get("required", []) or r.random() < 0.5:
                    result[name] = self.written(inner, root, depth + 1)
            rest = schema.get("additionalProperties")
            for name in schema.get("required", []):
                if name not in result:
                    result[name] = self.written(rest if rest is not None else True, root, depth + 1)
            if rest not in (None, False) and r.random() < 0.5:
                result["further"] = self.written(rest, root, depth + 1)
            return result
        if kind == "array":
            prefix = schema.get("prefixItems", [])
            low = schema.get("minItems", 0)
            high = schema.get("maxItems", max(low, len(prefix)) + 2)
            if "items" not in schema and prefix:
                high = min(high, max(low, len(prefix)))
            n = r.randint(low, max(low, high))
            return [self.written(prefix[i] if i < len(prefix) else schema.get("items", True), root, depth + 1) for i in range(n)]
        return self.any_value(1)

    def damaged(self, value):
        """Something near to it."""
        r = self.r
        if isinstance(value, dict) and value and r.random() < 0.8:
            value = dict(value)
            key = r.choice(list(value))
            pick = r.random()
            if pick < 0.3:
                del value[key]
            elif pick < 0.8:
                value[key] = self.damaged(value[key])
            else:
                value["extra"] = 1
            return value
        if isinstance(value, list) and value and r.random() < 0.8:
            value = list(value)
            i = r.randrange(len(value))
            if r.random() < 0.4:
                del value[i]
            else:
                value[i] = self.damaged(value[i])
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool) and r.random() < 0.7:
            return value + r.choice([1, -1, 1000, 0.5])
        if isinstance(value, str) and r.random() < 0.5:
            return value + r.choice(["a", "é", "aaaaaa"])
        return self.any_value(1)


def fixtures(n, seed, with_instances):
    maker = Maker(seed)
    while n > 0:
        schema = maker.whole()
        try:
            first = maker.written(schema, schema) if with_instances else None
        except ValueError:
            if with_instances and maker.r.random() < 0.7:
                continue
            first = None
        validator = jsonschema.Draft202012Validator(schema)
        instances = []
        for _ in range(8 if with_instances else 0):
            try:
                value = maker.written(schema, schema)
                written = not list(validator.iter_errors(value))
            except ValueError:
                value, written = maker.any_value(), False
            instances.append((value, written))
            instances.append((maker.damaged(value), False))
        line = {"schema": schema}
        if with_instances:
            line["instances"] = [{"text": dump(v), "valid": not list(validator.iter_errors(v)), "written": w} for v, w in instances]
        print(dump(line))
        n -= 1


def validate(path):
    n, bad, by_reason = 0, 0, {}
    for line in open(path):
        case = json.loads(line)
        if "error" in case:
            by_reason[case["error"]] = by_reason.get(case["error"], 0) + 1
            continue
        validator = jsonschema.Draft202012Validator(case["schema"], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        for text in case["answers"]:
            n += 1
            try:
                errors = [e.message for e in validator.iter_errors(json.loads(text))]
            except ValueError as e:
                errors = [str(e)]
            if errors:
                bad += 1
                print(text, "under", dump(case["schema"]), errors, file=sys.stderr)
    print(n, "answers,", bad, "that do not validate; schemas refused:", sum(by_reason.values()))
    for reason, count in sorted(by_reason.items(), key=lambda x: -x[1])[:20]:
        print("%6d %s" % (count, reason))
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1] == "validate":
        sys.exit(validate(sys.argv[2]))
    fixtures(int(sys.argv[2]), int(sys.argv[3]), sys.argv[1] == "fixtures")
