#!/usr/bin/python3
"""The peer of bench_train: LoRA training of a Llama in PyTorch on CPU, as fast as we can make it.

    bench/train_torch.py --shape m430 --type f32 [--layout 1x256] [--threads 2] [--rank 16]
                         [--steps 5] [--variant fused|plain|jit]

Random weights; the base is frozen and gets no gradients, nor does the input of the first layer;
rank 16 on q k v o gate up down; 256 tokens a step, every one of them a target; AdamW on the adapter.
Without --layout every split of the 256 tokens into sequences is tried and the fastest is measured.
Prints one line of JSON: tokens/s (median of the steps), the samples, and the peak resident memory.

Needs PyTorch (Debian: python3-torch). What makes it fast, each tried: q, k and v, and gate and up,
as one matmul each with their adapters, norms and activations as single autograd functions (`fused`);
attention batched over all heads; denormals flushed; adapters of bf16 with an f32 master copy. For
f32 the BLAS decides: OpenBLAS before 0.3.24 takes newer processors for a Prescott, four times
slower (OPENBLAS_CORETYPE=SkylakeX cures it where there is AVX-512), and the variant with its own
threads fights with PyTorch's, so that of OpenMP is used where it is installed (Debian:
libopenblas0-openmp). Both are set here by starting once more, unless they are set already.
"""
import argparse
import json
import math
import os
import resource
import statistics
import sys
import time

OPENMP_BLAS = '/usr/lib/x86_64-linux-gnu/openblas-openmp'
if __name__ == '__main__' and 'TRAIN_TORCH' not in os.environ:
    os.environ['TRAIN_TORCH'] = 'started'
    if os.path.exists('/proc/cpuinfo') and 'avx512f' in open('/proc/cpuinfo').read():
        os.environ.setdefault('OPENBLAS_CORETYPE', 'SkylakeX')
    if os.path.isdir(OPENMP_BLAS):
        os.environ.setdefault('LD_LIBRARY_PATH', OPENMP_BLAS)
    os.execv(sys.executable, [sys.executable] + sys.argv)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

SHAPES = {  # hidden, ffn, layers, heads, kv heads, vocabulary
    'm110': (768, 2048, 12, 12, 12, 32000),
    'm430': (1024, 4096, 24, 16, 4, 32000),
}
TOKENS = 256
LAYOUTS = ('1x256', '2x128', '4x64', '8x32')
ALPHA = 32.0


class FusedLora(torch.autograd.Function):
    """y = x W^T + scale * [x A1^T B1^T | x A2^T B2^T | …]: W stacked from several matrices."""

    @staticmethod
    def forward(ctx, x, weight, scale, *adapters):
        a, b = torch.cat(adapters[::2]), adapters[1::2]
        h = F.linear(x, a)
        y = F.linear(x, weight)
        row = 0
        for i, part in enumerate(b):
            rank = part.shape[1]
            y[:, row:row + part.shape[0]].addmm_(h[:, i * rank:(i + 1) * rank], part.t(),
                                                 alpha=scale)
            row += part.shape[0]
        ctx.save_for_backward(x, weight, h, a, *b)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, h, a, *b = ctx.saved_tensors
        rank, row, db, dh = b[0].shape[1], 0, [], []
        for i, part in enumerate(b):
            slice_dy = dy[:, row:row + part.shape[0]]
            db.append((slice_dy.t() @ h[:, i * rank:(i + 1) * rank]).mul_(ctx.scale))
            dh.append((slice_dy @ part).mul_(ctx.scale))
            row += part.shape[0]
        dh = torch.cat(dh, 1)
        da = (dh.t() @ x).split(rank)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dy @ weight
            dx.addmm_(dh, a)
        return (dx, None, None, *(g for pair in zip(da, db) for g in pair))


class FusedNorm(torch.autograd.Function):
    """RMSNorm; the weights of a random model are 1."""

    @staticmethod
    def forward(ctx, x, eps):
        wide = x.float()
        r = torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(eps))
        y = wide * r
        ctx.save_for_backward(y, r)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx, dy):
        y, r = ctx.saved_tensors
        wide = dy.float()
        mean = (wide * y).mean(-1, keepdim=True)
        return torch.addcmul(wide, y, mean, value=-1).mul_(r).to(dy.dtype), None


class FusedSwiglu(torch.autograd.Function):
    """silu(gate) * up of rows that hold both, without a copy of either."""

    @staticmethod
    def forward(ctx, gate_up):
        gate, up = gate_up.chunk(2, -1)
        ctx.save_for_backward(gate_up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, dy):
        gate, up = ctx.saved_tensors[0].chunk(2, -1)
        out = torch.empty_like(ctx.saved_tensors[0])
        dgate, dup = out.chunk(2, -1)
        torch.mul(F.silu(gate), dy, out=dup)
        dgate.copy_(torch.ops.aten.silu_backward(dy * up, gate))
        return out


def rms_norm(x, eps: float):
    wide = x.float()
    return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + eps)).to(x.dtype)


def swiglu(gate_up):
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q, k, v, mask, scale: float):
    s = torch.matmul(q, k.transpose(-1, -2)) * scale + mask
    return torch.matmul(torch.softmax(s, -1), v)


class Layer:
    def __init__(self, shape, rank, dtype, variant):
        hidden, ffn, _, self.heads, self.kv, _ = shape
        self.d = hidden // self.heads
        self.variant, self.rank, self.dtype, self.master = variant, rank, dtype, []
        groups = {'qkv': (hidden, (hidden, self.kv * self.d, self.kv * self.d)),
                  'o': (hidden, (hidden,)), 'gate_up': (hidden, (ffn, ffn)), 'down': (ffn, (hidden,))}
        self.weight, self.adapters = {}, {}
        for name, (into, outs) in groups.items():
            self.weight[name] = (torch.randn(sum(outs), into) * 0.02).to(dtype)
            for out in outs:
                self.master += [(torch.randn(rank, into) / math.sqrt(into)).requires_grad_(),
                                (torch.randn(out, rank) * 0.01).requires_grad_()]
            self.adapters[name] = self.master[-2 * len(outs):]
        self.attend, self.rotate = attend, rotate
        self.norm, self.swiglu = FusedNorm.apply, FusedSwiglu.apply
        if variant == 'plain':
            self.norm, self.swiglu = rms_norm, swiglu
        if variant == 'jit':
            self.attend, self.rotate, self.norm, self.swiglu = (
                torch.jit.script(f) for f in (attend, rotate, rms_norm, swiglu))

    def linear(self, name, x):
        scale = ALPHA / self.rank
        adapters = [w.to(self.dtype) for w in self.adapters[name]]
        if self.variant != 'plain':
            return FusedLora.apply(x, self.weight[name], scale, *adapters)
        outs = [b.shape[0] for b in adapters[1::2]]
        parts = [F.linear(x, w) + scale * F.linear(F.linear(x, a), b) for w, a, b in
                 zip(self.weight[name].split(outs), adapters[::2], adapters[1::2])]
        return torch.cat(parts, 1)

    def forward(self, x, batch, cos, sin, mask):
        rows, hidden = x.shape
        kv_size = self.kv * self.d
        y = self.linear('qkv', self.norm(x, 1e-5)).view(batch, rows // batch, -1)
        q, k, v = (p.view(batch, rows // batch, -1, self.d).transpose(1, 2)
                   for p in y.split((hidden, kv_size, kv_size), -1))
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if self.kv < self.heads:
            k, v = (p.repeat_interleave(self.heads // self.kv, 1) for p in (k, v))
        a = self.attend(q, k, v, mask, 1 / math.sqrt(self.d))
        x = x + self.linear('o', a.transpose(1, 2).reshape(rows, hidden))
        gate_up = self.linear('gate_up', self.norm(x, 1e-5))
        return x + self.linear('down', self.swiglu(gate_up))


class Trainer:
    def __init__(self, shape, rank, dtype, variant):
        hidden, _, layers, heads, _, self.vocab = shape
        self.dtype, self.d = dtype, hidden // heads
        self.embed = torch.randn(self.vocab, hidden).to(dtype)
        self.head = (torch.randn(self.vocab, hidden) * 0.02).to(dtype)
        self.layers = [Layer(shape, rank, dtype, variant) for _ in range(layers)]
        self.optimizer = torch.optim.AdamW([w for layer in self.layers for w in layer.master],
                                           lr=1e-4, foreach=True)

    def step(self, batch):
        length = TOKENS // batch
        freqs = 10000.0 ** (-torch.arange(0, self.d, 2) / self.d)
        angle = torch.arange(length)[:, None] * freqs
        cos, sin = torch.cos(angle).to(self.dtype), torch.sin(angle).to(self.dtype)
        mask = torch.full((length, length), -math.inf).triu(1).to(self.dtype)
        tokens = torch.randint(self.vocab, (batch, length + 1))
        begin = time.perf_counter()
        x = self.embed[tokens[:, :-1].reshape(-1)]
        for layer in self.layers:
            x = layer.forward(x, batch, cos, sin, mask)
        logits = F.linear(rms_norm(x, 1e-5), self.head)
        loss = F.cross_entropy(logits.float(), tokens[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]['params'], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - begin
        assert math.isfinite(loss.item())
        return TOKENS / seconds


def measure(trainer, layout, steps):
    batch = int(layout.split('x')[0])
    trainer.step(batch)
    return [trainer.step(batch) for _ in range(steps)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shape', choices=SHAPES, default='m110')
    parser.add_argument('--type', choices=('f32', 'bf16'), default='f32')
    parser.add_argument('--layout', help='sequences x length, as 4x64; default: the fastest')
    parser.add_argument('--variant', choices=('fused', 'plain', 'jit'), default='fused')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rank', type=int, default=16)
    parser.add_argument('--steps', type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    dtype = {'f32': torch.float32, 'bf16': torch.bfloat16}[args.type]
    trainer = Trainer(SHAPES[args.shape], args.rank, dtype, args.variant)
    layout = args.layout
    if not layout:
        layout = max(LAYOUTS, key=lambda l: max(measure(trainer, l, 2)))
    samples = measure(trainer, layout, args.steps)
    print(json.dumps({
        'trainer': 'pytorch ' + torch.__version__, 'shape': args.shape, 'type': args.type,
        'layout': layout, 'variant': args.variant, 'threads': args.threads, 'rank': args.rank,
        'tokens_per_second': round(statistics.median(samples), 1),
        'samples': [round(s, 1) for s in samples],
        'peak_memory_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        'blas': os.environ.get('OPENBLAS_CORETYPE', '') + (
            ' openmp' if os.environ.get('LD_LIBRARY_PATH', '').endswith('openmp') else '')}))


if __name__ == '__main__':
    main()
