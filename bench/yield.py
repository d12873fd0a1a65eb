#!/usr/bin/env python3
"""What a chat loses while a fine-tuning job trains beside it.

    bench/yield.py --base NAME [--url http://127.0.0.1:8080] [--key ol-...] [--streams 1]
                   [--tokens 128] [--rounds 5] [--max-loss 0.5]

Against a running `openledger serve`. Measures the tokens a second of streamed completions, alone and
while a job is in its steps, in turns of the same requests; prints medians and their ratio as a line
of JSON, cancels its job, and exits 1 when chat keeps less than (1 - max-loss) of its idle speed.
"""
import argparse
import json
import statistics
import sys
import threading
import time
import urllib.request
import uuid


def call(args, method, path, body=None, headers=None):
    request = urllib.request.Request(args.url + path, method=method, data=body,
                                     headers=dict(headers or {}))
    if args.key:
        request.add_header("Authorization", "Bearer " + args.key)
    return urllib.request.urlopen(request, timeout=600)


def call_json(args, method, path, value=None):
    body = None if value is None else json.dumps(value).encode()
    with call(args, method, path, body, {"Content-Type": "application/json"}) as answer:
        return json.load(answer)


def stream(args, number, results):
    """Seconds of each token of one streamed answer."""
    body = {"model": args.base, "prompt": "Once upon a time %d" % number, "stream": True,
            "max_tokens": args.tokens, "temperature": 1, "seed": number, "ignore_eos": True}
    times = []
    with call(args, "POST", "/v1/completions", json.dumps(body).encode(),
              {"Content-Type": "application/json"}) as answer:
        for line in answer:
            if line.startswith(b"data: {") and b'"choices":[]' not in line:
                times.append(time.monotonic())
    results.append(times)


def speed(args):
    """Tokens a second of all streams together, between their first and last tokens."""
    results = []
    threads = [threading.Thread(target=stream, args=(args, i, results))
               for i in range(args.streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(t for one in results for t in one)
    if len(times) < 3:
        sys.exit("yield: too few tokens came back to measure anything")
    return (len(times) - 1) / (times[-1] - times[0])


def upload(args):
    """Enough examples that the job outlasts the measurement."""
    rows = "".join(json.dumps({"prompt": "What is %d plus %d?" % (i, i + 1),
                               "completion": " It is %d." % (2 * i + 1)}) + "\n"
                   for i in range(2000))
    mark = uuid.uuid4().hex
    part = "--%s\r\nContent-Disposition: form-data; name=%s\r\n\r\n%s\r\n"
    form = (part % (mark, '"purpose"', "fine-tune") +
            part % (mark, '"file"; filename="yield.jsonl"', rows) + "--%s--\r\n" % mark)
    with call(args, "POST", "/v1/files", form.encode(),
              {"Content-Type": "multipart/form-data; boundary=" + mark}) as answer:
        return json.load(answer)["id"]


def await_steps(args, job):
    until = time.monotonic() + 600
    while time.monotonic() < until:
        now = call_json(args, "GET", "/v1/fine_tuning/jobs/" + job)
        if now["status"] not in ("queued", "running"):
            sys.exit("yield: the job is %s: %s" % (now["status"], now["error"]))
        if now["status"] == "running" and now["openledger"]["step"] > 0:
            return now["openledger"]["step"]
        time.sleep(0.2)
    sys.exit("yield: the job did not begin within ten minutes: is another one running?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-loss", type=float, default=0.5)
    args = parser.parse_args()
    speed(args)  # warm
    idle = [speed(args) for _ in range(args.rounds)]
    file = upload(args)
    job = call_json(args, "POST", "/v1/fine_tuning/jobs",
                    {"model": args.base, "training_file": file, "suffix": "yield",
                     "openledger": {"steps": 1000000, "eval_fraction": 0}})["id"]
    try:
        first = await_steps(args, job)
        beside = [speed(args) for _ in range(args.rounds)]
        last = await_steps(args, job)
    finally:
        call_json(args, "POST", "/v1/fine_tuning/jobs/%s/cancel" % job)
        call_json(args, "DELETE", "/v1/files/" + file)
    idle, beside = statistics.median(idle), statistics.median(beside)
    print(json.dumps({"base": args.base, "streams": args.streams, "tokens": args.tokens,
                      "idle_tokens_per_second": round(idle, 2),
                      "beside_training_tokens_per_second": round(beside, 2),
                      "kept": round(beside / idle, 3), "training_steps_meanwhile": last - first}))
    return 0 if beside >= (1 - args.max_loss) * idle else 1


if __name__ == "__main__":
    sys.exit(main())
