"""The demo model: Qwen2-VL as transformers has it, in small, and a batched forward pass for training.

forward() computes what Qwen2VLForConditionalGeneration computes (check() compares the two), with the attention of pictures of
one size in one call, the two equal frames of a still picture added up before the patch embedding, and logits only where
there is something to learn."""
import torch
import torch.nn.functional as F
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from data import MEAN, STD
from head import in_steps, patch_coordinates

SIZES = {  # hidden, decoder layers, decoder ffn, vision layers, vision mlp ratio
    "nano": (256, 2, 512, 2, 2), "small": (256, 4, 768, 6, 3), "base": (256, 5, 768, 6, 3)}
HEAD_DIM = 64


def config(vocabulary, size):
    hidden, layers, ffn, depth, ratio = SIZES[size]
    special = vocabulary.id
    return Qwen2VLConfig(
        architectures=["Qwen2VLForConditionalGeneration"], tie_word_embeddings=True,
        text_config=dict(
            vocab_size=len(vocabulary.tokens), hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
            num_attention_heads=hidden // HEAD_DIM, num_key_value_heads=hidden // HEAD_DIM // 2,
            max_position_embeddings=4096, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
            bos_token_id=special["<|endoftext|>"], eos_token_id=special["<|im_end|>"],
            # Contiguous sections give height and width the low frequencies: with the usual base of 1e6 neighbours on a
            # 5x5 grid would look alike.
            rope_parameters=dict(type="mrope", rope_type="default", rope_theta=20.0,
                                 mrope_section=[HEAD_DIM // 8, HEAD_DIM * 3 // 16, HEAD_DIM * 3 // 16])),
        vision_config=dict(depth=depth, embed_dim=hidden, hidden_size=hidden, num_heads=hidden // HEAD_DIM,
                           mlp_ratio=ratio),
        image_token_id=special["<|image_pad|>"], video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"], vision_end_token_id=special["<|vision_end|>"],
        vision_token_id=special["<|vision_pad|>"])


def create(vocabulary, size):
    torch.manual_seed(1)
    return Qwen2VLForConditionalGeneration(config(vocabulary, size)).float()


def rotate_half(x):
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def attend(q, k, v, mask=None, with_shares=False):
    """(softmax(q k^T / sqrt(d)) v, the softmax if asked for), q, k, v (B, heads, T, d). On the CPU three plain steps in
    bfloat16 are twice as fast, forth and back, as the fused call."""
    if q.is_cuda and not with_shares:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30)
    shares = scores.softmax(-1)
    return shares.to(v.dtype) @ v, shares if with_shares else None


def speed_up():
    """Lets torch compile the layers from here on: half as fast again on two cores, after half a minute for the compiler."""
    global encoder_layer, decoder_layer
    encoder_layer = torch.compile(encoder_layer, dynamic=True)
    decoder_layer = torch.compile(decoder_layer, dynamic=True)


def see(visual, images, grid, learn=True):
    """images (n, H, W, 3) uint8 -> (hidden of the last layer, normalised, (n, patches, C); merged (n, cells, hidden)).
    With learn = False nothing of it gets gradients."""
    with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
        normed = visual.merger.ln_q(blocks(visual, images, grid))
        return normed, visual.merger.mlp(normed.reshape(len(images), grid[0] * grid[1], -1))


def blocks(visual, images, grid):
    """The encoder up to its last layer: (n, patches, C)."""
    device = images.device
    n = images.shape[0]
    gh, gw = grid
    p = 14
    x = images.float() / 255
    x = (x - torch.as_tensor(MEAN, device=device)) / torch.as_tensor(STD, device=device)
    x = x.reshape(n, gh, 2, p, gw, 2, p, 3).permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(n, gh * gw * 4, 3 * p * p)
    kernel = visual.patch_embed.proj.weight  # (C, 3, 2, p, p)
    x = F.linear(x, kernel.sum(2).flatten(1))
    rc = patch_coordinates(grid, device).float()
    d = visual.blocks[0].attn.head_dim
    inverse = 10000.0 ** (-torch.arange(0, d // 2, 2, device=device).float() / (d // 2))
    angle = torch.cat((rc[:, :1] * inverse, rc[:, 1:] * inverse), -1)
    angle = torch.cat((angle, angle), -1)
    cos, sin = angle.cos(), angle.sin()
    for block in visual.blocks:
        x = encoder_layer(block, x.float(), cos, sin)
    return x


def turned(q, k, cos, sin, kind):
    """Rotary embedding of queries and keys, as `kind`."""
    return (q * cos + rotate_half(q) * sin).to(kind), (k * cos + rotate_half(k) * sin).to(kind)


def encoder_layer(block, x, cos, sin):
    """One layer of the encoder: x (n, patches, C); cos, sin (patches, head_dim)."""
    n, patches, width = x.shape
    q, k, v = block.attn.qkv(block.norm1(x)).reshape(n, patches, 3, block.attn.num_heads, -1).permute(2, 0, 3, 1, 4)
    a, _ = attend(*turned(q, k, cos, sin, v.dtype), v)
    x = x + block.attn.proj(a.transpose(1, 2).reshape(n, patches, width))
    return x + block.mlp(block.norm2(x))


def mrope(position_ids, layer_config, device):
    """position_ids (3, B, T) -> cos, sin (B, 1, T, head_dim): contiguous sections of the half, twice."""
    rope = layer_config.rope_parameters
    d = layer_config.hidden_size // layer_config.num_attention_heads
    inverse = 1.0 / rope["rope_theta"] ** (torch.arange(0, d, 2, device=device).float() / d)
    parts, start = [], 0
    for i, n in enumerate(rope["mrope_section"]):
        parts.append(position_ids[i].float()[..., None] * inverse[start:start + n])
        start += n
    angle = torch.cat(parts, -1)
    angle = torch.cat((angle, angle), -1)[:, None]
    return angle.cos(), angle.sin()


def think(text, x, position_ids, mask, lessons=None):
    """Decoder layers: x (B, T, hidden), mask (B, 1, T, T) bool, True where attention is allowed; lessons: see lessons.py."""
    cos, sin = mrope(position_ids, text.config, x.device)
    for number, layer in enumerate(text.layers):
        look = lessons and lessons.attention(number)
        x, shares = decoder_layer(layer, x.float(), cos, sin, mask, bool(look))
        if look:
            look(shares)
        if lessons:
            lessons.after(number, x)
    return text.norm(x)


def decoder_layer(layer, x, cos, sin, mask, with_shares):
    """(what one layer of the decoder leaves, its attention (B, heads, T, T) if asked for)"""
    a = layer.self_attn
    b, t, _ = x.shape
    h = layer.input_layernorm(x)
    q, k, v = (proj(h).reshape(b, t, -1, a.head_dim).transpose(1, 2) for proj in (a.q_proj, a.k_proj, a.v_proj))
    q, k = turned(q, k, cos, sin, v.dtype)
    k, v = (z.repeat_interleave(a.num_key_value_groups, 1) for z in (k, v))
    h, shares = attend(q, k, v, mask, with_shares)
    x = x + a.o_proj(h.transpose(1, 2).reshape(b, t, -1))
    return x + layer.mlp(layer.post_attention_layernorm(x)), shares


def forward(model, batch, prefix, device, learn_to_see=True, lessons=None):
    """batch of data.make_batch as tensors; prefix: (ids, positions, next). Returns (what see() returns, logits (n, vocabulary)
    at the labelled places, their flat indices into `targets`; some of them twice). lessons: what the decoder is taught
    inside, see lessons.py."""
    visual, text = model.model.visual, model.model.language_model
    grid, n_pictures = batch["grid"], batch["n_pictures"]
    hidden, merged = see(visual, batch["images"].to(device), grid, learn_to_see)
    prefix_ids, prefix_pos, first = prefix
    prefix_ids = torch.as_tensor(prefix_ids, device=device)
    ids = batch["ids"].to(device)
    b, t = ids.shape
    n = len(prefix_ids)
    image_at = (prefix_ids == model.config.image_token_id).nonzero()[:, 0]
    head = text.embed_tokens(prefix_ids)[None].expand(b, -1, -1).index_copy(
        1, image_at, merged.reshape(b, n_pictures * grid[0] * grid[1], -1).to(text.embed_tokens.weight.dtype))
    x = torch.cat((head, text.embed_tokens(ids)), 1)
    positions = torch.cat((torch.as_tensor(prefix_pos, device=device)[:, None].expand(3, b, n),
                           (batch["local"].to(device) + first)[None].expand(3, b, t)), -1)
    block = torch.cat((torch.full((b, n), -2, device=device), batch["block"].to(device)), 1)
    order = torch.arange(n + t, device=device)
    mask = (block[:, None, :] == -2) | (block[:, None, :] == block[:, :, None])
    mask = (mask & (order[None, :] <= order[:, None]))[:, None]
    x = think(text, x, positions, mask, lessons)[:, n:]
    targets = batch["targets"].to(device).reshape(-1)
    at = in_steps((targets >= 0).nonzero()[:, 0], 128)
    logits = F.linear(x.reshape(b * t, -1)[at], text.embed_tokens.weight)
    return (hidden, merged), logits, at


def check(vocabulary, size="nano"):
    """Largest difference of logits between forward() and transformers on a batch with a compare and a scene example."""
    import data
    model = create(vocabulary, size).eval()
    worst = 0.0
    for kind, grid in (("scene", (3, 5)), ("compare", (4, 4))):
        batch = tensors(data.make_batch(vocabulary, "train", kind, grid, [7], 1, 10 ** 6))
        prefix = data.prefix_tokens(vocabulary, grid, batch["n_pictures"])
        positions = data.prefix_positions(prefix, vocabulary.image, grid)
        with torch.no_grad():
            _, logits, at = forward(model, batch, (prefix, *positions), "cpu")
        for number in range(3):
            keep = (batch["block"][0] == number).nonzero()[:, 0]
            ids = torch.tensor([prefix])
            ids = torch.cat((ids, batch["ids"][:, keep]), 1)
            x = batch["images"].float() / 255
            x = (x - torch.tensor(MEAN)) / torch.tensor(STD)
            gh, gw = grid
            x = x.reshape(-1, gh, 2, 14, gw, 2, 14, 3).permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3, 1, 14, 14)
            x = x.expand(-1, 3, 2, 14, 14).reshape(x.shape[0], -1)
            with torch.no_grad():
                want = model(input_ids=ids, pixel_values=x, mm_token_type_ids=(ids == vocabulary.image).int(),
                             image_grid_thw=torch.tensor([[1, gh * 2, gw * 2]] * batch["n_pictures"])).logits[0]
            for i, flat in enumerate(at.tolist()):
                if flat in keep:
                    got = logits[i]
                    worst = max(worst, (want[len(prefix) + keep.tolist().index(flat)] - got).abs().max().item())
    return worst


def tensors(batch):
    return {k: torch.from_numpy(v) if hasattr(v, "dtype") else tensors(v) if isinstance(v, dict) else v
            for k, v in batch.items()}


if __name__ == "__main__":
    import os

    from vocabulary import Vocabulary
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vocabulary.json")
    print("largest difference to transformers:", check(Vocabulary(path)))
