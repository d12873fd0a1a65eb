#!/usr/bin/env python3
"""The program as a user meets it: every command, its output, its refusals.

    tests/cli.py PATH-OF-OPENLEDGER

Makes a small random model with a tokenizer and a chat template in a temporary folder, and a home of
its own. Prints a line per check and "N passed, N failed".
"""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

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


def byte_characters():
    """GPT-2's printable stand-ins for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in plain:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


CHAT = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def write_model(folder):
    """A Llama of 2 layers over 300 tokens: bytes, a few merges, three special tokens."""
    table = byte_characters()
    vocab = {table[b]: b for b in range(256)}
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("a", "n"), ("\u0120", "a")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = [{"id": 261 + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, s in enumerate(special)]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                          "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                  "merges": ["%s %s" % m for m in merges]},
    }
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300,
              "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
              "hidden_act": "silu", "bos_token_id": 261, "eos_token_id": 263}
    rng = random.Random(7)
    tensors = {"model.embed_tokens.weight": (300, 48), "model.norm.weight": (48,)}
    for i in range(2):
        p = "model.layers.%d." % i
        tensors.update({p + "input_layernorm.weight": (48,),
                        p + "post_attention_layernorm.weight": (48,),
                        p + "self_attn.q_proj.weight": (48, 48),
                        p + "self_attn.k_proj.weight": (24, 48),
                        p + "self_attn.v_proj.weight": (24, 48),
                        p + "self_attn.o_proj.weight": (48, 48),
                        p + "mlp.gate_proj.weight": (80, 48),
                        p + "mlp.up_proj.weight": (80, 48),
                        p + "mlp.down_proj.weight": (48, 80)})
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in sorted(tensors.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0 if len(shape) == 1 else rng.gauss(0, 0.25) for _ in range(count)]
        data = struct.pack("<%df" % count, *values)
        header[name] = {"dtype": "F32", "shape": list(shape),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    for name, value in (("config.json", config), ("tokenizer.json", tokenizer),
                        ("tokenizer_config.json", {"chat_template": CHAT,
                                                   "bos_token": "<|endoftext|>",
                                                   "eos_token": "<|im_end|>"})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f)


def check_first_contact():
    out, err = run(expect=1)
    check("usage on stderr", "Usage:" in err and not out)
    out, _ = run("--help")
    for command in ("run", "import", "models", "adapters", "import-adapter", "export", "generate",
                    "score", "tokenize", "bench"):
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


def write_adapter(folder, rank, base):
    """A PEFT folder over q and down of the model above, in f32, by what PEFT's documents say."""
    rng = random.Random(3)
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for layer in range(2):
        for module, outputs, inputs in (("self_attn.q_proj", 48, 48), ("mlp.down_proj", 48, 80)):
            for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                count = shape[0] * shape[1]
                data = struct.pack("<%df" % count, *(rng.gauss(0, 0.2) for _ in range(count)))
                header["base_model.model.model.layers.%d.%s.lora_%s.weight"
                       % (layer, module, side)] = {
                    "dtype": "F32", "shape": list(shape),
                    "data_offsets": [len(body), len(body) + len(data)]}
                body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(folder)
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16,
                   "target_modules": ["q_proj", "down_proj"], "base_model_name_or_path": base,
                   "bias": "none", "lora_dropout": 0.1}, f)


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
        check_interrupt()
        check_score(folder)
        check_adapters(folder)
    finally:
        shutil.rmtree(folder)
    print("%d passed, %d failed in %.1f s" % (passed, failed, time.time() - start))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
