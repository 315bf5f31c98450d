"""The original DiT on its own keys: its equations written out, and a state dict made from a diffusers model."""

import math
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def positions(side: int, width: int) -> Tensor:
    """[1, side^2, width]: the first half of the channels tells the column, the second the row; sines, then cosines."""
    quarter = width // 4
    waves = [10000.0 ** (-k / quarter) for k in range(quarter)]
    table = torch.zeros(side * side, width, dtype=torch.float64)
    for row in range(side):
        for column in range(side):
            numbers = []
            for place in (column, row):
                numbers += [math.sin(place * w) for w in waves] + [math.cos(place * w) for w in waves]
            table[row * side + column] = torch.tensor(numbers, dtype=torch.float64)
    return table[None].float()


def original_state(transformer: Any) -> State:
    """The inverse of the conversion: the weights of a diffusers DiT under the original's names."""
    there = transformer.state_dict()
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    state = {"pos_embed": positions(config.sample_size // config.patch_size, width)}
    emb = "transformer_blocks.0.norm1.emb"
    names = {
        "x_embedder.proj": "pos_embed.proj",
        "t_embedder.mlp.0": f"{emb}.timestep_embedder.linear_1",
        "t_embedder.mlp.2": f"{emb}.timestep_embedder.linear_2",
        "final_layer.linear": "proj_out_2",
        "final_layer.adaLN_modulation.1": "proj_out_1",
    }
    for n in range(config.num_layers):
        block = f"transformer_blocks.{n}"
        names |= {
            f"blocks.{n}.attn.proj": f"{block}.attn1.to_out.0",
            f"blocks.{n}.mlp.fc1": f"{block}.ff.net.0.proj",
            f"blocks.{n}.mlp.fc2": f"{block}.ff.net.2",
            f"blocks.{n}.adaLN_modulation.1": f"{block}.norm1.linear",
        }
        for kind in ("weight", "bias"):
            state[f"blocks.{n}.attn.qkv.{kind}"] = torch.cat([there[f"{block}.attn1.to_{q}.{kind}"] for q in "qkv"])
    for old, new in names.items():
        for kind in ("weight", "bias"):
            state[f"{old}.{kind}"] = there[f"{new}.{kind}"].clone()
    state["y_embedder.embedding_table.weight"] = there[f"{emb}.class_embedder.embedding_table.weight"].clone()
    return state


def original_output(state: State, heads: int, x: Tensor, t: int, labels: list[int]) -> Tensor:
    """What the original DiT computes for x [B, C, H, W]: eps, and with a learned variance its v behind it. float64."""
    s = {key: value.double() for key, value in state.items()}

    def linear(name: str, inputs: Tensor) -> Tensor:
        return inputs @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    def silu(inputs: Tensor) -> Tensor:
        return inputs / (1 + torch.exp(-inputs))

    def gelu(inputs: Tensor) -> Tensor:
        return 0.5 * inputs * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inputs + 0.044715 * inputs**3)))

    def modulated(inputs: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        centred = inputs - inputs.mean(-1, keepdim=True)
        normed = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)
        return normed * (1 + scale[:, None]) + shift[:, None]

    width, channels, patch, _ = s["x_embedder.proj.weight"].shape
    side = x.shape[-1] // patch
    cells = x.double().reshape(len(x), channels, side, patch, side, patch)
    tokens = torch.einsum("bcipjq,dcpq->bijd", cells, s["x_embedder.proj.weight"]) + s["x_embedder.proj.bias"]
    tokens = tokens.reshape(len(x), side * side, width) + s["pos_embed"]

    angles = t * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    wave = torch.cat([angles.cos(), angles.sin()])[None]
    c = linear("t_embedder.mlp.2", silu(linear("t_embedder.mlp.0", wave)))
    c = c + s["y_embedder.embedding_table.weight"][labels]

    depth = len({key.split(".")[1] for key in s if key.startswith("blocks.")})
    for n in range(depth):
        b = f"blocks.{n}"
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = linear(f"{b}.adaLN_modulation.1", silu(c)).split(width, 1)
        qkv = linear(f"{b}.attn.qkv", modulated(tokens, shift_1, scale_1))
        q, k, v = qkv.reshape(len(x), -1, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // heads), dim=-1)
        mixed = (scores @ v).transpose(1, 2).reshape(tokens.shape)
        tokens = tokens + gate_1[:, None] * linear(f"{b}.attn.proj", mixed)
        inner = gelu(linear(f"{b}.mlp.fc1", modulated(tokens, shift_2, scale_2)))
        tokens = tokens + gate_2[:, None] * linear(f"{b}.mlp.fc2", inner)
    shift, scale = linear("final_layer.adaLN_modulation.1", silu(c)).split(width, 1)
    out = linear("final_layer.linear", modulated(tokens, shift, scale))
    out = out.reshape(len(x), side, side, patch, patch, -1)  # rows, columns, then both inside a patch, channels last
    return out.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, side * patch, side * patch)
