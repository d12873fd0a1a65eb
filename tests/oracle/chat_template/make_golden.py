#!/usr/bin/python3
"""make_golden.py FOLDER HUGGINGFACE.json > FOLDER/expected.json

What Python's jinja2 makes of every template of FOLDER (*.jinja) over its conversations.json:

    {"template/conversation/setting": {"text": …} or {"refused": true},
     and "huggingface": … where @huggingface/jinja (render.mjs's output) gives another text, or null
     where only that refuses}
"""
import glob
import json
import os
import sys

from transformers_jinja import render


def main():
    folder, other = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
    plan = json.load(open(os.path.join(folder, "conversations.json"), encoding="utf-8"))
    rows = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as file:
            source = file.read()
        for conversation, messages in plan["conversations"].items():
            for setting, variables in plan["settings"].items():
                name = f"{os.path.basename(path)[:-6]}/{conversation}/{setting}"
                text, _ = render(source, {"messages": messages, **variables}, plan["trusted"], plan["now"])
                row = {"refused": True} if text is None else {"text": text}
                if other[name] != text:
                    row["huggingface"] = other[name]
                rows[name] = row
    print("{\n" + ",\n".join(json.dumps(n) + ": " + json.dumps(r, ensure_ascii=False) for n, r in rows.items()) + "\n}")


main()
