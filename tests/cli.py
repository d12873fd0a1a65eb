#!/usr/bin/env python3
"""The program as a user meets it: every command, its output, its refusals.

    tests/cli.py PATH-OF-OPENLEDGER

Makes a small random model with a tokenizer and a chat template in a temporary folder, and a home of
its own. Prints a line per check and "N passed, N failed".
"""
import json
import os
import re
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib

from tiny_model import write_adapter, write_model

PROGRAM = os.path.abspath(sys.argv[1])
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def run(*args, env=None, expect=0):
    """Output and errors of one call; the exit status must be `expect`."""
    result = subprocess.run([PROGRAM, *args], capture_output=True, timeout=300,
                            env={**os.environ, **(env or {})})
    out, err = result.stdout.decode(), result.stderr.decode()
    check("exit of `%s`" % ascii(" ".join(args)), result.returncode == expect,
          "%d instead of %d: %s" % (result.returncode, expect, err))
    return out, err


def refused(sentence, *args, env=None):
    out, err = run(*args, env=env, expect=1)
    check("one sentence for `%s`" % ascii(" ".join(args)),
          err.startswith("openledger: ") and err.count("\n") == 1 and sentence in err and not out,
          repr(err))


def check_first_contact():
    out, err = run(expect=1)
    check("usage on stderr", "Usage:" in err and not out)
    out, _ = run("--help")
    for command in ("run", "import", "models", "adapters", "import-adapter", "export", "reproduce",
                    "generate", "train", "eval", "score", "tokenize", "bench"):
        check("help names " + command, "  " + command in out)
        about, _ = run(command, "--help")
        check("help of " + command, "Usage: openledger " + command in about)
    out, _ = run("--version")
    check("version", out.startswith("openledger ") and "arithmetic" in out)
    refused("no command \"frobnicate\"", "frobnicate")
    refused("no option \"--frob\"", "models", "--frob")
    out, _ = run("run")
    check("run: all equal", "All equal, bit for bit." in out and "DIFFERENT" not in out)
    check("run: next steps", PROGRAM + " import" in out)
    out, _ = run("bench", "--shape", "tiny", "--decode", "4", "--repeats", "1", "--json")
    bench = json.loads(out)
    check("bench keys", set(bench["decode_tps"]) == {"1", "8", "32"} and bench["prefill_tps"] > 0
          and set(bench["share"]) == {"prefill", "decode_bandwidth"}
          and {"f32_gflops", "int8_gops", "read_gbs"} <= set(bench["peak"]))


def check_import(model):
    ids = {}
    for weights in ("f32", "bf16", "q8", "q4"):
        out, _ = run("import", model, "--weights", weights, "--name", "m-" + weights, "--json")
        ids[weights] = json.loads(out)["id"]
    check("each weight type has its own id", len(set(ids.values())) == 4)
    refused("already a model \"m-q8\"", "import", model, "--name", "m-q8")
    out, _ = run("import", model, "--name", "m-q8", "--force", "--json")
    check("the same model has the same id", json.loads(out)["id"] == ids["q8"])
    out, _ = run("models", "--json", "--verify")
    listed = json.loads(out)
    check("models lists and verifies", listed["object"] == "list" and
          {m["name"]: m["id"] for m in listed["data"]} == {"m-" + w: i for w, i in ids.items()})
    out, _ = run("models")
    check("models for people", "m-q8" in out and "llama" in out)
    refused("nowhere", "import", os.path.join(model, "nowhere"))
    refused("--weights q7 is unknown", "import", model, "--weights", "q7", "--name", "x")
    refused("is not a name", "import", model, "--name", "../x")
    broken = model + "-broken"
    shutil.copytree(model, broken)
    path = os.path.join(broken, "model.safetensors")
    with open(path, "r+b") as f:
        f.truncate(os.path.getsize(path) - 100)
    refused("model.safetensors", "import", broken, "--name", "broken")
    files = os.listdir(os.path.join(os.environ["OPENLEDGER_HOME"], "models"))
    check("nothing half-written", sorted(files) == ["m-%s.olm" % w for w in sorted(ids)], files)
    with open(os.path.join(os.environ["OPENLEDGER_HOME"], "models", "bad.olm"), "wb") as f:
        f.write(b"not a model")
    refused("bad", "score", "-m", "bad", path)
    os.unlink(f.name)


def check_tokenize():
    def ids(*args):
        return json.loads(run("tokenize", "-m", "m-q8", "--json", *args)[0])["tokens"]
    check("merges", ids("-p", " the") == [258])
    check("bytes", ids("-p", "\u00e9") == [0xc3, 0xa9])
    check("a user's special text is text", 262 not in ids("-p", "<|im_start|>"))
    check("unless asked", ids("-p", "<|im_start|>", "--special") == [262])
    chat = ids("--chat", "-p", "<|im_end|>hi<|im_start|>")
    check("chat: only the template's", chat.count(262) == 2 and chat.count(263) == 1, chat)
    out, _ = run("tokenize", "-m", "m-q8", "-p", "the")
    check("tokenize for people", out.split() == ["257", "the"], out)


def check_generate():
    def answer(*args, env=None):
        out, _ = run("generate", "--json", *args, env=env)
        return json.loads(out)
    base = ("-m", "m-q8", "-p", "Once upon a time", "-n", "24", "--ignore-eos")
    greedy = answer(*base, "-t", "0")
    check("json keys", {"text", "tokens", "finish_reason", "seed", "model_id"} <= set(greedy))
    check("length", len(greedy["tokens"]) == 24 and greedy["finish_reason"] == "length")
    first, again = answer(*base, "--seed", "5"), answer(*base, "--seed", "5")
    check("a seed is an answer", first == again)
    check("another seed, another answer", answer(*base, "--seed", "6")["tokens"] != first["tokens"])
    check("no seed: still reproducible", answer(*base) == answer(*base))
    for env in ({"OPENLEDGER_THREADS": "1"}, {"OPENLEDGER_THREADS": "3"},
                {"OPENLEDGER_ISA": "scalar"}):
        check("same answer with %s" % env, answer(*base, "--seed", "5", env=env) == first)
    streamed, _ = run("generate", *base, "--seed", "5")
    check("streamed text is the text", streamed == first["text"] + "\n")
    check("sampling that leaves one is greedy",
          answer(*base, "--top-k", "1")["tokens"] == greedy["tokens"])
    check("min-p 1 is greedy", answer(*base, "--min-p", "1")["tokens"] == greedy["tokens"])
    text = first["text"]
    for stop in (text[5:7], text[3:6], text[-2:]):
        stopped = answer(*base, "--seed", "5", "--stop", stop)
        check("stop before %r" % stop, stopped["text"] == text[:text.index(stop)]
              and stopped["finish_reason"] == "stop", stopped)
    with_logprobs = answer(*base, "-t", "0", "--logprobs", "3")["logprobs"]
    check("logprobs", len(with_logprobs) == 24 and all(
        entry["top"][0]["token"] == entry["token"] and entry["logprob"] <= 0
        and entry["top"][0]["logprob"] == entry["logprob"] and len(entry["top"]) == 3
        and entry["top"][1]["logprob"] <= entry["logprob"] for entry in with_logprobs))
    chat = answer("-m", "m-f32", "--chat", "-p", "Hello", "--system", "Be brief.", "-n", "8")
    check("chat answers", chat["prompt_tokens"] > 8)
    refused("no model \"nowhere\"; there are: m-bf16, m-f32, m-q4, m-q8",
            "generate", "-m", "nowhere", "-p", "x")
    refused("needs a model", "generate", "-p", "x")
    refused("--temperature cannot be \"-1\"", "generate", *base, "-t", "-1")
    refused("shorten it", "generate", "-m", "m-q8", "-p", "x " * 3000)
    refused("OPENLEDGER_ISA=mmx is unknown", "generate", *base, env={"OPENLEDGER_ISA": "mmx"})
    refused("OPENLEDGER_THREADS=0", "generate", *base, env={"OPENLEDGER_THREADS": "0"})
    refused("UTF-8", "generate", "-m", "m-q8", "-p", "\udcff\udcfe")


def check_structured(folder):
    def answer(*args):
        out, _ = run("generate", "--json", "-m", "m-q8", "-p", "Tell", "-n", "300", *args)
        return json.loads(out)
    path = os.path.join(folder, "schema.json")
    with open(path, "w") as f:
        json.dump({"type": "object", "properties": {
            "name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name", "age"]}, f)
    first = answer("--json-schema", path, "-s", "1")
    value = json.loads(first["text"])
    check("a schema's answer", first["finish_reason"] == "stop" and list(value) == ["name", "age"]
          and len(value["name"]) <= 8 and value["age"] >= 0, first)
    check("and it is on record", len(first["grammar_id"]) == 64)
    check("again the same", answer("--json-schema", path, "-s", "1") == first)
    check("an object begins with a brace", answer("--json-object")["text"].startswith("{"))
    check("a choice", answer("--choice", "yes", "--choice", "no")["text"] in ("yes", "no"))
    with open(path, "w") as f:
        json.dump({"properties": {"x": {"multipleOf": 3}}}, f)
    refused("the schema at /properties/x: \"multipleOf\" cannot be enforced",
            "generate", "-m", "m-q8", "-p", "x", "--json-schema", path)
    with open(path, "w") as f:
        f.write("{\n\"type\": }")
    refused("line 2", "generate", "-m", "m-q8", "-p", "x", "--json-schema", path)
    refused("exclude one another", "generate", "-m", "m-q8", "-p", "x", "--json-object",
            "--choice", "a")


def check_interrupt():
    process = subprocess.Popen([PROGRAM, "generate", "-m", "m-f32", "-p", "a", "-n", "0",
                                "--ignore-eos"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE,
                               env={**os.environ, "OPENLEDGER_ISA": "scalar",
                                    "OPENLEDGER_THREADS": "1"})
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    check("Ctrl-C ends cleanly", process.returncode == 130 and out.endswith(b"\n") and not err,
          (process.returncode, err))


def check_adapters(folder):
    def score(*args):
        return json.loads(run("score", "--json", *args, text)[0])

    def place(name):
        return os.path.join(folder, name)
    text = place("verse.txt")
    with open(text, "w") as f:
        f.write("the cat and the dog and the bird sat on a wall. ")
    write_adapter(place("verse"), 4, "somebody/m-f32")
    out, _ = run("adapters")
    check("no adapters yet", out.startswith("No adapters yet."))
    out, _ = run("import-adapter", place("verse"), "--json")
    sha = json.loads(out)["sha256"]
    refused("already an adapter \"verse\"", "import-adapter", place("verse"))
    run("import-adapter", place("verse"), "-m", "m-q8", "--name", "verse-q8")
    refused("no model \"nowhere\"", "import-adapter", place("verse"), "-m", "nowhere", "-n", "x")
    out, _ = run("adapters", "--json")
    listed = {a["name"]: a for a in json.loads(out)["data"]}
    check("adapters lists", set(listed) == {"verse", "verse-q8"} and
          listed["verse"]["sha256"] == sha and listed["verse"]["rank"] == 4 and
          listed["verse"]["targets"] == "q,down" and listed["verse"]["base"] == "m-f32" and
          listed["verse"]["parameters"] == 2 * 4 * (96 + 128), listed)
    out, _ = run("adapters")
    check("adapters for people", "verse-q8" in out and "q,down" in out)
    base, ours = score("-m", "m-f32"), score("-m", "verse")
    check("an adapter by its name", ours["adapter_sha256"] == sha and
          ours["logits_sha256"] != base["logits_sha256"] and "adapter_sha256" not in base)
    for args in (("-m", "m-f32", "--adapter", "verse"), ("-m", "m-f32", "-a", place("verse")),
                 ("-m", place("home/adapters/verse"))):
        check("the same adapter as %s" % ascii(args), score(*args) == ours)
    answer = ("generate", "--json", "-p", "the", "-n", "8", "-t", "0", "-m", "m-f32")
    plain = json.loads(run(*answer)[0])
    under = json.loads(run(*answer, "-a", "verse")[0])
    check("generate under an adapter", under["adapter_sha256"] == sha and
          "adapter_sha256" not in plain and under["seed"] == plain["seed"])

    run("export", "verse", "--format", "peft", "-o", place("out-peft"))
    check("a peft export has its words", set(os.listdir(place("out-peft"))) == {
        "adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"})
    out, _ = run("import-adapter", place("out-peft"), "--name", "verse-again", "--json")
    check("import(export(a)) = a", json.loads(out)["sha256"] == sha)
    check("and scores the same", score("-m", "verse-again") == ours)
    run("export", "verse", "--format", "gguf", "-o", place("verse.gguf"))
    check("a gguf adapter", open(place("verse.gguf"), "rb").read(4) == b"GGUF")
    run("export", "verse", "--format", "merged-safetensors", "-o", place("merged"))
    run("export", "verse", "--format", "merged-gguf", "-w", "f32", "-o", place("merged.gguf"))
    for name in ("merged", "merged.gguf"):
        run("import", place(name), "--weights", "f32", "--name", name.replace(".", "-"))
        merged = score("-m", name.replace(".", "-"))
        check("%s is near base and adapter" % name,
              abs(merged["nats_per_token"] - ours["nats_per_token"]) < 1e-5 and
              abs(ours["nats_per_token"] - base["nats_per_token"]) > 1e-3, merged)
    check("both merged are one", score("-m", "merged") == score("-m", "merged-gguf"))
    ids = {m["name"]: m["id"] for m in json.loads(run("models", "--json")[0])["data"]}
    for kind, place_of in (("safetensors", place("out-hf")), ("gguf", place("out.gguf"))):
        run("export", "m-f32", "--format", kind, "-o", place_of)
        out, _ = run("import", place_of, "--weights", "f32", "--name", "back-" + kind, "--json")
        if kind == "safetensors":  # GGUF has its own way to write a tokenizer
            check("a model comes back from " + kind, json.loads(out)["id"] == ids["m-f32"])
        check("and scores the same", score("-m", "back-" + kind) == base)
    refused("is there already", "export", "verse", "--format", "gguf", "-o", place("verse.gguf"))
    run("export", "verse", "--format", "gguf", "-o", place("verse.gguf"), "--force")
    refused("is an adapter", "export", "verse", "--format", "safetensors", "-o", place("x"))
    refused("is a model", "export", "m-f32", "--format", "peft", "-o", place("x"))
    refused("neither an adapter nor a model", "export", "nobody", "--format", "peft", "-o",
            place("x"))
    refused("--format zip is unknown", "export", "verse", "--format", "zip", "-o", place("x"))
    refused("no adapter \"nobody\"; there are: verse", "score", "-m", "m-f32", "-a", "nobody", text)
    check("refusals leave nothing", not os.path.exists(place("x")))


def check_score(folder):
    path = os.path.join(folder, "text.txt")
    with open(path, "w") as f:
        f.write("the cat and the dog and the bird sat on a wall. " * 40)
    results = {}
    for weights in ("f32", "q8"):
        for env in ({}, {"OPENLEDGER_THREADS": "1"}, {"OPENLEDGER_ISA": "scalar"}):
            out, _ = run("score", "-m", "m-" + weights, path, "--json", env=env)
            results.setdefault(weights, []).append(out)
    check("score: same bits whatever runs it", all(len(set(r)) == 1 for r in results.values()))
    f32, q8 = (json.loads(results[w][0]) for w in ("f32", "q8"))
    check("score keys", {"tokens", "nats_per_token", "nats_per_byte", "logits_sha256"} <= set(f32))
    check("q8 is near f32", abs(f32["nats_per_token"] - q8["nats_per_token"]) <
          0.02 * f32["nats_per_token"] and f32["logits_sha256"] != q8["logits_sha256"])
    refused("No such file", "score", "-m", "m-q8", path + "x")
    open(path, "w").close()
    refused("no text", "score", "-m", "m-q8", path)


def write_questions(folder):
    """Data in three kinds of file, with a card, and preference pairs."""
    data = os.path.join(folder, "data")
    os.makedirs(data)
    rows = [{"id": "q%d" % i, "contributor": "Ann" if i % 2 else "Bob", "fact": str(i % 3),
             "prompt": "What is %d?" % i, "completion": "the %d" % (i % 3)} for i in range(60)]
    with open(os.path.join(data, "a.jsonl"), "w") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows[:30])
    with open(os.path.join(data, "b.csv"), "w") as f:
        f.write("id,contributor,fact,prompt,completion\n")
        f.writelines("%(id)s,%(contributor)s,%(fact)s,%(prompt)s,%(completion)s\n" % row
                     for row in rows[30:])
    with open(os.path.join(data, "card.json"), "w") as f:
        json.dump({"license": "CC-BY-4.0", "attribution": "Ann and Bob"}, f)
    joined = os.path.join(folder, "joined.json")
    with open(joined, "w") as f:
        json.dump([dict(row, license="CC-BY-4.0") for row in rows], f)
    pairs = os.path.join(folder, "pairs.jsonl")
    with open(pairs, "w") as f:
        f.writelines(json.dumps({"prompt": r["prompt"], "chosen": r["completion"],
                                 "rejected": "no"}) + "\n" for r in rows)
    return data, joined, pairs


def train(*args, env=None):
    out, err = run("train", "-m", "m-f32", "--json", *args, env=env)
    return json.loads(out), err


def home_path(*parts):
    return os.path.join(os.environ["OPENLEDGER_HOME"], *parts)


def check_train(folder):
    data, joined, pairs = write_questions(folder)
    out, _ = run("train", "-m", "m-f32", "-d", data, "--preview", "1")
    check("preview marks the answer", out.startswith("q0 (Bob, %s/a.jsonl:1): " % data) and
          "<|im_start|>assistant\n[[the 0<|im_end|>]]\n" in out and "q1" not in out, out)
    options = ("--steps", "24", "--name", "first")
    result, progress = train("-d", data, *options)
    check("train keys", {"adapter", "adapter_sha256", "train_loss", "eval_loss",
                         "tokens_per_second"} <= set(result))
    check("it learns", result["train_loss"] < 2 and result["eval_loss"] < 2, result)
    check("progress in lines", "step 24/24" in progress and "\r" not in progress and
          "held-out loss" in progress and "wanted: the" in progress, progress)
    with open(home_path("adapters", "first", "metrics.jsonl")) as f:
        metrics = [json.loads(line) for line in f]
    check("metrics", [m["step"] for m in metrics if "loss" in m] == list(range(1, 25)) and
          metrics[-1]["step"] == 24 and "eval_perplexity" in metrics[-1])
    with open(home_path("adapters", "first", "examples.jsonl")) as f:
        examples = [json.loads(line) for line in f]
    check("every example and its loss", [e["id"] for e in examples] ==
          ["q%d" % i for i in range(60)] and
          all((e["loss"] is None) == e["held_out"] for e in examples))
    same, _ = train("-d", joined, "--steps", "24", "--name", "joined", "-q")
    check("the file's kind leaves no trace", same["adapter_sha256"] == result["adapter_sha256"])
    for env in ({"OPENLEDGER_THREADS": "1"}, {"OPENLEDGER_ISA": "scalar"}):
        same, _ = train("-d", joined, *options, "-q", "--force", env=env)
        check("the same adapter with %s" % env,
              same["adapter_sha256"] == result["adapter_sha256"])
    other, _ = train("-d", data, "--steps", "24", "--name", "other", "-q", "--seed", "2")
    check("another seed, another adapter", other["adapter_sha256"] != result["adapter_sha256"])
    for method in ("qlora", "dpo", "full"):
        made, _ = train("-d", pairs if method == "dpo" else data, "--steps", "4", "--method",
                        method, "--name", "by-" + method, "-q")
        check("method " + method, os.path.exists(made["path"]) and
              ("model" in made) == (method == "full"), made)
    out, _ = run("train", "--method", "full", "--config", os.path.join(folder, "model",
                                                                       "config.json"),
                 "--tokenizer", os.path.join(folder, "model"), "-d", data, "--steps", "4",
                 "--name", "new", "--json", "-q")
    check("a model from nothing", json.loads(out)["model"] == "new")
    folder_of_new = os.path.join(folder, "new-hf")
    out, _ = run("train", "--method", "full", "-m", "m-f32", "-d", data, "--steps", "2", "--name",
                 "exported", "--json", "-q", "--weights", "f32", "--export", folder_of_new)
    again, _ = run("import", folder_of_new, "--weights", "f32", "--name", "imported", "--json")
    check("an exported model comes back", json.loads(out)["model_id"] == json.loads(again)["id"])
    after, _ = train("-d", pairs, "--method", "dpo", "--from", "first", "--steps", "4", "--name",
                     "after", "-q")
    with open(home_path("adapters", "after", "manifest.json")) as f:
        manifest = json.load(f)
    check("going on from an adapter keeps its sources", {s["file"] for s in manifest["training"][
        "sources"]} == {"pairs.jsonl", "joined.json"} and
        manifest["training"]["config"]["start"] == result["adapter_sha256"], manifest)
    run("generate", "-m", "new", "--chat", "-p", "Hello", "-n", "4")
    check_train_refusals(folder, data)


def check_train_refusals(folder, data):
    def train_refused(sentence, *args):
        refused(sentence, "train", "-m", "m-f32", *args)
    bad = os.path.join(folder, "bad.jsonl")
    with open(bad, "w") as f:
        f.write('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n')
    train_refused('%s:2: field "completion" is missing' % bad, "-d", bad)
    train_refused("train needs data")
    train_refused("No such file", "-d", bad + "x")
    train_refused("there is already an adapter \"first\"", "-d", data, "--name", "first")
    train_refused("--method lorra is unknown", "-d", data, "--method", "lorra")
    train_refused("--schedule cosinus is unknown", "-d", data, "--schedule", "cosinus")
    train_refused("--rank cannot be \"0\"", "-d", data, "--rank", "0")
    train_refused("no token of the answer is left", "-d", data, "--max-length", "8")
    refused("name a base", "train", "-d", data)
    secret = os.path.join(folder, "secret.jsonl")
    shutil.copy(os.path.join(data, "a.jsonl"), secret)
    with open(os.path.join(folder, "secret.card.json"), "w") as f:
        json.dump({"terms": {"train": False}}, f)
    train_refused("the terms of %s forbid training" % secret, "-d", secret)


def check_reproduce(folder):
    for name in ("first", "by-qlora", "by-dpo"):
        out, _ = run("reproduce", name, "--json")
        check("reproduced: " + name, json.loads(out)["same"] is True, out)
    out, _ = run("reproduce", "joined")
    check("reproduced, for people", out.startswith("joined: the same, bit for bit\n"), out)
    refused("nobody knows how \"verse\" was trained", "reproduce", "verse")
    kept = os.path.join(folder, "kept.jsonl")
    shutil.copy(os.path.join(folder, "data", "a.jsonl"), kept)
    with open(os.path.join(folder, "kept.card.json"), "w") as f:
        json.dump({"license": "LicenseRef-ours", "terms": {"export": False}}, f)
    train("-d", kept, "--steps", "2", "--name", "kept", "-q")
    for kind in ("peft", "gguf", "merged-safetensors", "merged-gguf"):
        refused("trained on kept.jsonl (LicenseRef-ours), whose terms forbid", "export", "kept",
                "--format", kind, "-o", os.path.join(folder, "kept-out"))
    check("nothing of it left", not os.path.exists(os.path.join(folder, "kept-out")))
    with open(home_path("adapters", "kept", "README.md")) as f:
        card = f.read()
    check("the card tells the terms", "kept.jsonl: LicenseRef-ours; what is made of it may not be "
          "handed out" in card and 'license:\n- "licenseref-ours"' in card, card)
    with open(kept, "a") as f:
        f.write("\n")
    refused("it has changed since", "reproduce", "kept")


def check_attribution(folder):
    """Who shaped an answer: index, attribute, audit, fidelity."""
    data = os.path.join(folder, "data")
    made, _ = train("-d", data, "--steps", "24", "--name", "shared", "-q")
    plain, _ = train("-d", data, "--steps", "24", "--name", "plain", "-q", "--no-index")
    check("an index where contributors are known", len(made["index"] or "") == 64 and
          plain["index"] is None and made["adapter_sha256"] == plain["adapter_sha256"], made)
    for env in ({"OPENLEDGER_THREADS": "1"}, {"OPENLEDGER_ISA": "scalar"}):
        out, _ = run("index", "plain", "--json", env=env)
        check("the same root with %s" % env, json.loads(out)["index"] == made["index"], out)
    with open(home_path("adapters", "plain", "manifest.json")) as f:
        check("the manifest names it", json.load(f)["attribution"] ==
              {"index": made["index"], "fidelity": None})
    out, _ = run("reproduce", "plain", "--json")
    check("an index changes no adapter", json.loads(out)["same"] is True, out)
    ask = ("attribute", "-m", "shared", "-p", "What is 7?", "-r", "the 1", "--json")
    told = json.loads(run(*ask)[0])
    same = json.loads(run(*ask, env={"OPENLEDGER_ISA": "scalar", "OPENLEDGER_THREADS": "1"})[0])
    for answer in (told, same):
        answer.pop("seconds")
    check("the same shares on every machine", told == same, (told, same))
    check("shares are the whole or nothing", sum(c["share_ppb"] for c in told["contributors"]) ==
          (10 ** 9 if told["clear"] else 0) and told["index"] == made["index"] and
          {c["contributor"] for c in told["contributors"]} == {"Ann", "Bob"} and
          told["confidence"] == "normal" and len(told["examples"]) == 5, told)
    out, _ = run("attribute", "-m", "shared", "-p", "What is 7?", "--top", "2", "--gain")
    check("a picture of it", "Ann" in out and "Bob" in out and "share table" in out and
          "under the base alone" in out, out)
    audit = json.loads(run("audit", "shared", "--without", "Ann", "-p", "What is 7?", "-r", "the 1",
                           "--json")[0])
    check("without Ann her examples are harder", audit["own"]["loss_without"] >
          audit["own"]["loss_with"] and audit["removed"] + audit["kept"] < 60 and
          audit["answer"]["score"] is not None, audit)
    study = ("fidelity", "shared", "--subsets", "3", "--shapley", "--json")
    first, again = json.loads(run(*study)[0]), json.loads(run(*study)[0])
    check("a study is kept and goes on", first["retrained"] > 0 and again["retrained"] == 0 and
          first["lds"] == again["lds"] and -1 <= first["lds"] <= 1 and
          0 <= first["shapley"] <= 1, (first, again))
    with open(home_path("adapters", "shared", "README.md")) as f:
        check("the card tells how far to trust it", "3 random subsets" in f.read())
    after, _ = train("-d", os.path.join(data, "a.jsonl"), "--from", "shared", "--steps", "4",
                     "--name", "child", "-q")
    out = json.loads(run("index", "child", "--json")[0])
    check("a parent's contributors stay", out["index"] == after["index"] and
          out["examples"] > 60 and out["clusters"] < out["examples"], out)
    check_attribution_refusals(data)


def check_attribution_refusals(data):
    refused("attribute needs an adapter", "attribute", "-p", "x")
    refused("gave none of the examples", "audit", "shared", "--without", "Cyd")
    refused("audit takes one ADAPTER", "audit", "shared")
    refused("say with -d which data", "index", "verse")
    refused("is no range", "index", "shared", "--layers", "3-1")
    refused("attributed yet", "index", "by-dpo")
    out = json.loads(run("index", "verse", "-d", data, "--json")[0])
    told = json.loads(run("attribute", "-m", "verse", "-p", "What is 7?", "-r", "the 1",
                          "--json")[0])
    check("an adapter made elsewhere: low confidence", told["confidence"] == "low" and
          told["index"] == out["index"], told)
    with open(home_path("adapters", "shared", "attribution.index"), "r+b") as f:
        f.seek(2000)
        byte = f.read(1)
        f.seek(2000)
        f.write(bytes([byte[0] ^ 1]))
    refused("damaged", "attribute", "-m", "shared", "-p", "What is 7?", "-r", "the 1")


def check_resume(folder):
    """Killed, stopped and gone on with: the bits of the uninterrupted run."""
    data = os.path.join(folder, "data")
    steps = ("-d", data, "--steps", "400", "--eval-every", "100", "-q", "--checkpoint-every", "20")
    whole, _ = train(*steps, "--name", "whole")
    checkpoints = home_path("training", "cut")
    for attempt, how in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGKILL)):
        resume = ["--resume"] if attempt else []
        process = subprocess.Popen([PROGRAM, "train", "-m", "m-f32", *steps, "--name", "cut",
                                    *resume], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={**os.environ, "OPENLEDGER_ISA": "scalar"})
        newest, until = "", time.time() + 120
        before = sorted(os.listdir(checkpoints))[-1] if attempt else ""
        while newest <= before and process.poll() is None and time.time() < until:
            time.sleep(0.01)
            if os.path.isdir(checkpoints):
                newest = max([n for n in os.listdir(checkpoints) if n.endswith("checkpoint")],
                             default="")
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
        if how == signal.SIGINT:
            check("Ctrl-C says how to go on", process.returncode == 130 and
                  err.count(b"\n") == 1 and b"--resume goes on" in err, err)
    refused("there is a run \"cut\" already", "train", "-m", "m-f32", *steps, "--name", "cut")
    refused("seed", "train", "-m", "m-f32", *steps, "--name", "cut", "--resume", "--seed", "9")
    result, _ = train(*steps, "--name", "cut", "--resume")
    check("resumed: the same adapter", result["adapter_sha256"] == whole["adapter_sha256"])
    check("resumed: the same figures", all(
        result[k] == whole[k] for k in ("train_loss", "eval_loss", "eval_nats_per_byte")))
    with open(home_path("adapters", "cut", "metrics.jsonl")) as f:
        numbers = [json.loads(line)["step"] for line in f if "eval_loss" not in line]
    check("resumed: every step once in the metrics", numbers == list(range(1, 401)), numbers)


def check_trouble(folder):
    """A diverging run, a full disk."""
    data = os.path.join(folder, "data")
    out, err = run("train", "-m", "m-f32", "-d", data, "--steps", "400", "--name", "wild", "-q",
                   "--method", "full", "--lr", "10", "--clip", "0", "--checkpoint-every", "1",
                   "--weight-decay", "10", expect=1)
    check("a diverging run says where", "diverges" in err and "step" in err and
          err.count("\n") == 1 and not os.path.exists(home_path("models", "wild.olm")), err)
    # A limit on the size of a file stands for a full disk: the first checkpoint does not fit.
    result = subprocess.run(["bash", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "-", PROGRAM,
                             "train", "-m", "m-f32", "-d", data, "--steps", "8", "--name", "full",
                             "-q", "--checkpoint-every", "4"], capture_output=True, timeout=120)
    err = result.stderr.decode()
    left = [n for n in os.listdir(home_path("training", "full")) if "checkpoint" in n]
    check("a full disk says so", result.returncode == 1 and "cannot write" in err and
          "--resume" in err and err.count("\n") == 1 and left == [], (err, left))


def check_eval(folder):
    data = os.path.join(folder, "data")
    losses = os.path.join(folder, "losses.jsonl")

    def evaluate(*args):
        return json.loads(run("eval", "-d", data, "--json", *args)[0])
    base, better = evaluate("-m", "m-f32"), evaluate("-a", "first", "--per-example", losses)
    check("eval: an adapter is better", better["loss"] < 0.5 * base["loss"] and
          better["right"] >= base["right"] and better["examples"] == 60)
    check("eval: by contributor", set(better["contributors"]) == {"Ann", "Bob"} and
          sum(c["examples"] for c in better["contributors"].values()) == 60)
    with open(losses) as f:
        lines = [json.loads(line) for line in f]
    check("eval: per example", len(lines) == 60 and abs(
        sum(x["nats"] for x in lines) - better["loss"] * better["answer_tokens"]) < 1e-3 and
        sum(x["right"] for x in lines) == better["right"])
    out, _ = run("eval", "-m", "m-f32", "-a", "first", "-d", data)
    check("eval for people", "Ann" in out and "nats/byte" in out)
    refused("eval needs a model", "eval", "-d", data)
    refused("no adapter", "eval", "-a", "nowhere", "-d", data)


def check_keys():
    """Made, listed, revoked; a token is shown once and is what it is said to be."""
    out, _ = run("keys", "list")
    check("no keys at first", "No keys yet" in out, out)
    out, err = run("keys", "add", "--name", "my laptop", "--tokens-per-day", "1000", "--open", "2.5",
                   "--expires", "90d")
    token = out.strip()
    check("a key by itself on stdout", re.fullmatch("ol-[0-9A-Za-z]{49}", token), out)
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    number = 0
    for digit in token[46:]:
        number = number * 62 + digits.index(digit)
    check("the checksum is a CRC-32", number == zlib.crc32(token[:46].encode()), token)
    first = err.split()[0]
    out, _ = run("keys", "add", "-s", "admin", "-a", "0xabc", "--json")
    second = json.loads(out)
    check("keys add --json", second["scopes"] == ["admin"] and second["account"] == "0xabc", out)
    out, _ = run("keys", "list")
    check("keys list", first in out and "my laptop" in out and "0/1000" in out and "0/2.5" in out,
          out)
    run("keys", "revoke", first)
    out, _ = run("keys", "list")
    check("the revoked one is hidden", first not in out and "--all" in out, out)
    out, _ = run("keys", "list", "--json")
    states = [key["state"] for key in json.loads(out)["data"]]
    check("keys list --json", states == ["revoked", "active"], out)
    for path, _, names in os.walk(os.environ["OPENLEDGER_HOME"]):
        for name in names:
            if name.startswith("node.sqlite3"):
                with open(os.path.join(path, name), "rb") as f:
                    check("no token on disk", token[3:46].encode() not in f.read(), name)
    refused("there is no key", "keys", "revoke", "key-nope")
    refused("name the keys", "keys", "revoke")
    refused("is not a scope", "keys", "add", "-s", "files,fly")
    refused("is not a time", "keys", "add", "-e", "3y")
    refused("is not an amount", "keys", "add", "--open", "-1")
    refused("is not an account", "keys", "add", "-a", "a b")
    refused("there is no command", "keys", "list-all")


def check_serve(folder):
    """Its configuration, its greeting, an answer that is `generate`'s, and SIGTERM."""
    config = os.path.join(folder, "serve.ini")

    def configured(text, *args, sentence=None):
        with open(config, "w") as f:
            f.write(text)
        if sentence:
            return refused(sentence, "serve", "--config", config, "--check-config", *args)
        return run("serve", "--config", config, "--check-config", *args)[0].splitlines()
    lines = configured("[other]\nanything = 1\n[serve]\nport = 9001\nbase = m-q8\n"
                       "allow-adapter-loading = true\nname = a.example\n", "--port", "9002")
    check("options on the line come first", "port = 9002" in lines, lines)
    check("the rest comes from the file", "base = m-q8" in lines and "name = a.example" in lines
          and "allow-adapter-loading = true" in lines, lines)
    configured("[serve]\n\nport = many\n", sentence="serve.ini:3: --port cannot be \"many\"")
    configured("[serve]\ncolour = red\n", sentence="serve.ini:2: there is no option \"colour\"")
    configured("[serve]\nallow-adapter-loading = maybe\n", sentence="serve.ini:2: ")
    configured("[serve\n", sentence="serve.ini:1: ")
    refused("cannot read", "serve", "--config", os.path.join(folder, "none.ini"))
    refused("say which one to serve", "serve", "--port", "0")
    refused("--kv-bytes cannot be", "serve", "--base", "m-q8", "--kv-bytes", "lots")
    process = subprocess.Popen([PROGRAM, "serve", "--base", "m-q8", "--port", "0"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = re.search(r"http://\S+", process.stdout.readline())
    check("the greeting has the address", url)
    body = {"model": "m-q8", "prompt": "the", "max_tokens": 12, "seed": 4, "temperature": 0.8}
    token = json.loads(run("keys", "add", "-n", "for serve", "--json")[0])["key"]
    request = urllib.request.Request(url.group() + "/v1/completions", json.dumps(body).encode(),
                                     {"content-type": "application/json",
                                      "authorization": "Bearer " + token})
    answer = json.load(urllib.request.urlopen(request, timeout=60))
    alone = json.loads(run("generate", "-m", "m-q8", "-p", "the", "-n", "12", "-s", "4", "-t",
                           "0.8", "--top-p", "1", "--json")[0])
    check("the served answer is generate's", answer["choices"][0]["text"] == alone["text"],
          (answer, alone))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    check("SIGTERM ends it well", process.returncode == 0 and "stopping" in err, err)


def main():
    folder = tempfile.mkdtemp(prefix="openledger-cli-")
    os.environ["OPENLEDGER_HOME"] = os.path.join(folder, "home")
    for name in ("OPENLEDGER_ISA", "OPENLEDGER_THREADS"):
        os.environ.pop(name, None)
    start = time.time()
    try:
        write_model(os.path.join(folder, "model"))
        check_first_contact()
        check_import(os.path.join(folder, "model"))
        check_tokenize()
        check_generate()
        check_structured(folder)
        check_interrupt()
        check_score(folder)
        check_adapters(folder)
        check_train(folder)
        check_reproduce(folder)
        check_attribution(folder)
        check_resume(folder)
        check_trouble(folder)
        check_eval(folder)
        check_keys()
        check_serve(folder)
    finally:
        shutil.rmtree(folder)
    print("%d passed, %d failed in %.1f s" % (passed, failed, time.time() - start))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
