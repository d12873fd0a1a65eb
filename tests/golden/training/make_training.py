#!/usr/bin/python3
"""Reference gradients and optimiser steps for the tiny models of tests/golden/models.

    make_training.py            write NAME.json beside this script, one for each model
    make_training.py --check    recompute and compare with what is there

Needs PyTorch and numpy (Debian: python3-torch). The transformer is make_models.forward, whole
sequences in float64; gradients are PyTorch's, the optimiser is torch.optim.AdamW. Nothing here
resembles the trainer: no tape, no chunks, no packing, LoRA as a sum of matrices.

A tensor's gradient is kept as its Euclidean norm, its sum, its largest magnitude, and a few dozen
entries [index, value] (half of them drawn, half of them among the largest). Names are the engine's
(docs/ARITHMETIC.md, "Model id"); those of adapters end in .a and .b. Norms of Gemma are 1 + w in
the engine and w in the file: the derivative is the same.

    examples        tokens, and for each whether it is a target: the loss of a token t that is one
                    is -log p(t | the tokens before it)
    batch           the first three examples: nats and answer tokens of each, and loss = all nats /
                    all answer tokens, whose gradients follow
    full, lora      loss and gradients; lora is rank 4, alpha 8, on q k v o gate up down and head,
                    with the A and B of `weights_of_adapter`
    steps           ten AdamW steps from there (betas 0.9 and 0.999, eps 1e-8, decoupled decay,
                    clip norm 1, the learning rates as listed); step s takes the examples s, s+1
                    and s+2 modulo 5. In full training only matrices decay, never norms and biases
    dpo             beta 0.1 on two pairs that share a prompt each; the reference is the model
                    without the adapter. loss = mean of -log sigmoid(beta * margin). Its steps
                    take both pairs and start from their reference: the adapter as it was
"""
import argparse
import json
import math
import os
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'models'))
import make_models  # noqa: E402

RANK, ALPHA, BETA = 4, 8.0, 0.1
STEPS, WARMUP, CLIP = 10, 3, 1.0
RATES = {'full': 2e-3, 'lora': 1e-2, 'dpo': 1e-3}
DECAYS = {'full': 0.1, 'lora': 0.05, 'dpo': 0.0}
BETAS, EPS = (0.9, 0.999), 1e-8
ENTRIES = 12
BATCH = (0, 1, 2)

# Length of each example, and the spans of it that are answers. Longer than the windows of 8; one
# with a single answer token, one with two turns, one whose answer begins at the first target.
EXAMPLES = ((19, ((9, 19),)), (7, ((6, 7),)), (33, ((5, 12), (20, 31))), (11, ((1, 11),)),
            (24, ((16, 24),)))
PAIRS = ((9, 6, 11), (14, 8, 5))  # tokens of prompt, chosen and rejected answer


# ---- Names ---------------------------------------------------------------------------------------

PARTS = {'self_attn.q_proj.weight': 'q', 'self_attn.k_proj.weight': 'k',
         'self_attn.v_proj.weight': 'v', 'self_attn.o_proj.weight': 'o',
         'self_attn.q_proj.bias': 'q_bias', 'self_attn.k_proj.bias': 'k_bias',
         'self_attn.v_proj.bias': 'v_bias', 'self_attn.q_norm.weight': 'q_norm',
         'self_attn.k_norm.weight': 'k_norm', 'mlp.gate_proj.weight': 'gate',
         'mlp.up_proj.weight': 'up', 'mlp.down_proj.weight': 'down',
         'input_layernorm.weight': 'attention_norm'}
NORMS = {'post_attention_layernorm.weight': 'ffn_norm'}
GEMMA_NORMS = {'post_attention_layernorm.weight': 'post_attention_norm',
               'pre_feedforward_layernorm.weight': 'ffn_norm',
               'post_feedforward_layernorm.weight': 'post_ffn_norm'}
TARGETS = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')


def engine_name(config, name):
    whole = {'model.embed_tokens.weight': 'embed', 'model.norm.weight': 'final_norm',
             'lm_head.weight': 'head'}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split('.', 3)
    parts = dict(PARTS, **(GEMMA_NORMS if make_models.is_gemma(config) else NORMS))
    return 'layers.%s.%s' % (layer, parts[rest])


# ---- Numbers from a formula ----------------------------------------------------------------------


def splitmix64(x):
    """The 64-bit finaliser of SplitMix64 applied to x + its increment; x: array of uint64."""
    with np.errstate(over='ignore'):
        z = x + np.uint64(0x9e3779b97f4a7c15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
        return z ^ (z >> np.uint64(31))


def weights_of_adapter(number, which, rows, cols):
    """Element i of adapter `number` (layer * 7 + place in TARGETS; the head comes last) is
    s / 512 for A and s / 1024 for B, s the top byte, as int8, of
    splitmix64(((2 * number + (1 if B)) << 32) + i): exact in bfloat16."""
    key = np.uint64(2 * number + (which == 'b')) << np.uint64(32)
    z = splitmix64(key + np.arange(rows * cols, dtype=np.uint64))
    s = (z >> np.uint64(56)).astype(np.uint8).view(np.int8).astype(np.float64)
    return torch.tensor((s / (512 if which == 'a' else 1024)).reshape(rows, cols))


# ---- Models and losses ---------------------------------------------------------------------------


class Model:
    """Base weights by the names of the file; an adapter adds alpha / rank * B A to each matrix."""

    def __init__(self, name, seed, dtype=torch.float64):
        self.config, stored_type, _, _ = make_models.MODELS[name]
        _, values = make_models.draw_tensors(self.config, stored_type, seed)
        self.base = {k: torch.tensor(v).to(dtype) for k, v in values.items()}
        self.dtype = dtype

    def names(self):
        return {engine_name(self.config, k): k for k in self.base}

    def make_adapter(self):
        names, self.adapter = self.names(), {}
        spots = [('layers.%d.%s' % (layer, part)) for layer in
                 range(self.config['num_hidden_layers']) for part in TARGETS] + ['head']
        for number, spot in enumerate(spots):
            out, into = self.base[names.get(spot, 'model.embed_tokens.weight')].shape
            for which, shape in (('a', (RANK, into)), ('b', (out, RANK))):
                w = weights_of_adapter(number, which, *shape).to(self.dtype)
                self.adapter['%s.%s' % (spot, which)] = w.requires_grad_()
        return self.adapter

    def effective(self, adapter):
        """The weights with the adapter merged; a tied head gets its own matrix, the embedding none."""
        names, merged = self.names(), dict(self.base)
        for spot in sorted({k[:-2] for k in adapter}):
            delta = ALPHA / RANK * (adapter[spot + '.b'] @ adapter[spot + '.a'])
            source = names.get(spot, 'model.embed_tokens.weight')
            merged[names.get(spot, 'lm_head.weight')] = self.base[source] + delta
        return merged

    def answer_nats(self, weights, example):
        tokens, answer = example['tokens'], example['answer']
        y = torch.log_softmax(make_models.forward(self.config, weights, tokens), -1)
        picked = [-y[i - 1, tokens[i]] for i in range(1, len(tokens)) if answer[i]]
        return torch.stack(picked).sum(), len(picked)


def make_examples(config, seed):
    rng = np.random.RandomState(seed + 2000)
    out = []
    for length, spans in EXAMPLES:
        tokens = [config['bos_token_id']] + rng.randint(3, config['vocab_size'], length - 1).tolist()
        answer = [int(any(a <= i < b for a, b in spans)) for i in range(length)]
        out.append({'tokens': tokens, 'answer': answer})
    return out


def make_pairs(config, seed):
    rng = np.random.RandomState(seed + 3000)
    return [dict(zip(('prompt', 'chosen', 'rejected'),
                     ([config['bos_token_id']] + rng.randint(3, config['vocab_size'], a - 1).tolist(),
                      rng.randint(3, config['vocab_size'], b).tolist(),
                      rng.randint(3, config['vocab_size'], c).tolist()))) for a, b, c in PAIRS]


def batch_loss(model, weights, examples):
    nats, counts = zip(*(model.answer_nats(weights, e) for e in examples))
    return sum(nats) / sum(counts), [float(n) for n in nats], list(counts)


def dpo_loss(model, weights, pairs, reference):
    """Mean over pairs, and for each the log-probabilities chosen, rejected, and of the reference."""
    terms, records = [], []
    for pair in pairs:
        logp = {}
        for which in ('chosen', 'rejected'):
            tokens = pair['prompt'] + pair[which]
            answer = [0] * len(pair['prompt']) + [1] * len(pair[which])
            example = {'tokens': tokens, 'answer': answer}
            logp[which] = -model.answer_nats(weights, example)[0]
            with torch.no_grad():
                logp['base_' + which] = -model.answer_nats(reference, example)[0]
        margin = (logp['chosen'] - logp['base_chosen']) - (logp['rejected'] - logp['base_rejected'])
        terms.append(torch.log1p(torch.exp(-BETA * margin)))
        records.append({k: float(v) for k, v in logp.items()})
    return sum(terms) / len(terms), records


# ---- What is kept of a tensor --------------------------------------------------------------------


def summary(name, gradient):
    g = gradient.detach().numpy().reshape(-1)
    seed = np.frombuffer(name.encode(), np.uint8).astype(np.int64)
    rng = np.random.RandomState(int((seed * (np.arange(len(seed)) + 1)).sum()))
    picked = rng.randint(0, len(g), ENTRIES)
    largest = np.argsort(-np.abs(g), kind='stable')[:ENTRIES // 2 * 9:9]
    indices = sorted(set(picked[:ENTRIES // 2].tolist() + largest.tolist()))
    return {'norm': rounded(np.sqrt((g * g).sum())), 'sum': rounded(g.sum()),
            'largest': rounded(np.abs(g).max()),
            'entries': [[i, rounded(g[i])] for i in indices]}


def rounded(x):
    return float('%.10g' % float(x))


def gradients_of(loss, tensors):
    return dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values()))))


def norm_of(gradients):
    return math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))


def shift_of(config, name):
    """What the engine's number has more than the file's: Gemma's norms are 1 + w."""
    return 1 if make_models.is_gemma(config) and name.endswith('norm') else 0


# ---- Optimiser steps -----------------------------------------------------------------------------


def learning_rate(peak, step):
    """Linear over the first WARMUP steps, the first of which is not idle; then a cosine to zero."""
    if step < WARMUP:
        return peak * (step + 1) / WARMUP
    return peak * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def ten_steps(model, method, examples, pairs):
    if method != 'full':
        leaves = {k: v.detach().clone().requires_grad_() for k, v in model.make_adapter().items()}
    else:
        leaves = {engine_name(model.config, k): v.detach().clone().requires_grad_()
                  for k, v in model.base.items()}
    names = model.names()

    start = {k: v.detach().clone() for k, v in leaves.items()}

    def loss_of(batch):
        if method == 'dpo':
            return dpo_loss(model, model.effective(leaves), pairs, model.effective(start))[0]
        if method == 'lora':
            return batch_loss(model, model.effective(leaves), batch)[0]
        return batch_loss(model, {names[k]: v for k, v in leaves.items()}, batch)[0]

    matrices = [v for v in leaves.values() if v.dim() == 2]
    vectors = [v for v in leaves.values() if v.dim() == 1]
    optimizer = torch.optim.AdamW([{'params': matrices, 'weight_decay': DECAYS[method]},
                                   {'params': vectors, 'weight_decay': 0.0}],
                                  lr=0.0, betas=BETAS, eps=EPS)
    losses, gradient_norms, rates = [], [], []
    for step in range(STEPS):
        batch = [examples[(step + i) % len(examples)] for i in range(3)]
        loss = loss_of(batch)
        gradients = gradients_of(loss, leaves)
        norm = norm_of(gradients)
        for k, leaf in leaves.items():
            leaf.grad = gradients[k] * min(1.0, CLIP / norm)
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(RATES[method], step)
        optimizer.step()
        losses.append(rounded(loss))
        gradient_norms.append(rounded(norm))
        rates.append(learning_rate(RATES[method], step))
    with torch.no_grad():
        last = rounded(loss_of([examples[i] for i in BATCH]))
    assert max(gradient_norms) > 1.2 * CLIP and last < losses[0] - 0.1, (gradient_norms, losses, last)
    return {'learning_rates': rates, 'weight_decay': DECAYS[method], 'losses': losses,
            'gradient_norms': gradient_norms, 'loss_after': last,
            'norms': {k: rounded((v.detach() + shift_of(model.config, k)).norm())
                      for k, v in leaves.items()},
            'changes': {k: rounded((v.detach() - start[k]).norm()) for k, v in leaves.items()}}


# ---- One model -----------------------------------------------------------------------------------


def gradients_in(name, seed, dtype):
    """Everything that is differentiated once: {section: (loss, gradients, details)}."""
    model = Model(name, seed, dtype)
    examples = make_examples(model.config, seed)
    batch, pairs = [examples[i] for i in BATCH], make_pairs(model.config, seed)
    leaves = {engine_name(model.config, k): v.requires_grad_() for k, v in model.base.items()}
    loss, nats, counts = batch_loss(model, model.base, batch)
    out = {'full': (loss, gradients_of(loss, leaves), (nats, counts))}
    for v in model.base.values():
        v.requires_grad_(False)
    adapter = model.make_adapter()
    loss, nats, counts = batch_loss(model, model.effective(adapter), batch)
    out['lora'] = (loss, gradients_of(loss, adapter), (nats, counts))
    loss, records = dpo_loss(model, model.effective(adapter), pairs, model.base)
    out['dpo'] = (loss, gradients_of(loss, adapter), records)
    return out, model, examples, pairs


def check_slopes(model, examples, gradients):
    """A central difference along one random direction of all adapter weights together."""
    adapter = {k: v.detach() for k, v in model.adapter.items()}
    rng = np.random.RandomState(7)
    way = {k: torch.tensor(rng.standard_normal(v.shape)) for k, v in adapter.items()}
    e = 1e-5
    ends = [float(batch_loss(model, model.effective({k: v + s * e * way[k] for k, v in
                                                     adapter.items()}), examples)[0])
            for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * e)
    exact = sum(float((gradients[k] * way[k]).sum()) for k in way)
    assert abs(slope - exact) < 1e-6 * max(1, abs(exact)), (slope, exact)


def honest_error(exact, single):
    """Largest difference of an entry over the largest entry of its tensor, in float32."""
    return max(float((exact[k] - single[k].double()).abs().max() / exact[k].abs().max())
               for k in exact)


def make_training(name, seed):
    exact, model, examples, pairs = gradients_in(name, seed, torch.float64)
    single = gradients_in(name, seed, torch.float32)[0]
    check_slopes(model, [examples[i] for i in BATCH], exact['lora'][1])
    golden = {'examples': examples, 'pairs': pairs, 'rank': RANK, 'alpha': ALPHA, 'beta': BETA}
    report = '%-12s f32 vs f64:' % name
    for section, (loss, gradients, details) in exact.items():
        for k, g in gradients.items():
            assert float(g.abs().max()) > 1e-6, (name, section, k)
        honest = honest_error(gradients, single[section][1])
        report += ' %s %.1e' % (section, honest)
        assert honest < 3e-5, report
        golden[section] = {'loss': rounded(loss), 'gradient_norm': rounded(norm_of(gradients)),
                           'gradients': {k: summary(k, g) for k, g in gradients.items()}}
        if section == 'dpo':
            golden[section]['pairs'] = [{k: rounded(v) for k, v in r.items()} for r in details]
        else:
            golden[section]['nats'] = [rounded(n) for n in details[0]]
            golden[section]['answer_tokens'] = details[1]
    for method in ('full', 'lora', 'dpo'):
        golden[method]['steps'] = ten_steps(model, method, examples, pairs)
        report += ', %s %.3f -> %.3f' % (method, golden[method]['loss'],
                                         golden[method]['steps']['loss_after'])
    return golden, report


def same(a, b):
    """Numbers within 1e-8 of each other: another machine's libm may differ in the last bits."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) <= 1e-8 * max(1, abs(a))
    return a == b


def text_of(golden):
    """One line for each tensor or list, so that a difference can be read."""
    def lines(value, depth):
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()) or (
                isinstance(value, dict) and depth < 2):
            inner = ',\n'.join('%s"%s": %s' % (' ' * depth, k, lines(v, depth + 1))
                               for k, v in value.items())
            return '{\n%s\n%s}' % (inner, ' ' * max(0, depth - 1))
        return json.dumps(value, separators=(',', ':'))
    return lines(golden, 0) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='compare with the committed files')
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed, name in enumerate(make_models.MODELS, start=1):
        golden, report = make_training(name, seed)
        path = os.path.join(HERE, name + '.json')
        if args.check:
            with open(path) as f:
                assert same(json.load(f), json.loads(text_of(golden))), path
        else:
            with open(path, 'w') as f:
                f.write(text_of(golden))
        print(report)


if __name__ == '__main__':
    sys.exit(main())
