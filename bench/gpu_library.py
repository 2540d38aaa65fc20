"""What the vendor's libraries reach at this project's shapes, through PyTorch where a machine has it: a yardstick that
nothing of glimpse uses. One line per operation, median of replays of a CUDA graph in microseconds, random data."""
import statistics

import torch
import torch.nn.functional as F

PER_GRAPH, REPLAYS = 20, 9


def median_us(work):
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(PER_GRAPH):
            work()
    times = []
    for _ in range(REPLAYS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / PER_GRAPH)
    return statistics.median(times[1:])


def matmul(name, rows, cols, n):
    w = torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16)
    x = torch.randn(n, cols, device="cuda", dtype=torch.bfloat16)
    us = median_us(lambda: F.linear(x, w))
    print(f"matmul    {name:<24} n {n:5d}  {2e-6 * rows * cols * n / us:7.1f} TFLOP/s  {us:9.2f} us", flush=True)


def attention(name, heads, dim, n, causal):
    q, k, v = (torch.randn(1, heads, n, dim, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    us = median_us(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal))
    print(f"attention {name:<24} n {n:5d}  {4e-6 * n * n * heads * dim / us:7.1f} TFLOP/s  {us:9.2f} us", flush=True)


def main():
    big = torch.randn(1 << 29, device="cuda")
    other = torch.empty_like(big)
    us = median_us(lambda: other.copy_(big))
    print(f"copy of 2 GiB: {2e-3 * big.numel() * 4 / us:.0f} GB/s read and written  {us:9.2f} us", flush=True)
    del big, other
    matmul("square 8192x8192", 8192, 8192, 8192)
    for n in (1024, 5184):
        for name, rows, cols in (("vit qkv", 3840, 1280), ("vit up", 5120, 1280), ("vit down", 1280, 5120)):
            matmul(f"{name} {rows}x{cols}", rows, cols, n)
    for name, rows, cols in (("2b gate+up", 17920, 1536), ("2b down", 1536, 8960)):
        matmul(f"{name} {rows}x{cols}", rows, cols, 1024)
    attention("vit 16 hd 80", 16, 80, 1024, False)
    attention("vit 16 hd 80", 16, 80, 5184, False)
    attention("prefill 12 hd 128", 12, 128, 1024, True)


if __name__ == "__main__":
    main()
