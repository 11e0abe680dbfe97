"""The plain ViT against the papers' own outputs, an independent forward pass, and its promises on any image size."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flsl_bench.backbones.positions import fit_positions, sincos_positions
from flsl_bench.backbones.vit import FACETS, DropPath, VisionTransformer
from flsl_bench.checkpoints import load_checkpoint
from flsl_bench.errors import ConfigError

PREFIXES = {
    "no prefix": dict(class_token=False),
    "CLS": dict(class_token=True),
    "CLS without position": dict(class_token=True, class_token_position=False),
    "CLS and four registers": dict(class_token=True, num_registers=4),
}


def tiny_vit(**options):
    """A ViT whose every parameter is random, gains and biases too, so that none of them can be left out unnoticed."""
    torch.manual_seed(0)
    vit = VisionTransformer(**{**dict(embed_dim=24, depth=3, num_heads=2, position_grid=(3, 4)), **options})
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return vit.eval()


def random_images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def plain_layer_norm(x, weight, bias, eps):
    deviation = x - x.mean(-1, keepdim=True)
    return deviation / (deviation.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def plain_attention(x, weights, name, heads):
    """Softmax attention one head at a time."""
    projected = x @ weights[f"{name}.qkv.weight"].T + weights.get(f"{name}.qkv.bias", 0)
    queries, keys, values = projected.split(x.shape[-1], dim=-1)
    outputs = []
    for q, k, v in zip(*(part.chunk(heads, dim=-1) for part in (queries, keys, values)), strict=True):
        similarity = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        outputs.append(torch.softmax(similarity, dim=-1) @ v)
    return torch.cat(outputs, dim=-1) @ weights[f"{name}.proj.weight"].T + weights[f"{name}.proj.bias"]


def plain_mlp(x, weights, name):
    hidden = x @ weights[f"{name}.fc1.weight"].T + weights[f"{name}.fc1.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ weights[f"{name}.fc2.weight"].T + weights[f"{name}.fc2.bias"]


def plain_tokens(vit, images):
    """Tokens after every block for images of the table's own size, computed from the state dict alone."""
    weights, p = vit.state_dict(), vit.patch_size
    kernel, bias = weights["patch_embed.proj.weight"].flatten(1), weights["patch_embed.proj.bias"]
    rows, cols = images.shape[2] // p, images.shape[3] // p
    patches = [images[:, :, r * p : (r + 1) * p, c * p : (c + 1) * p] for r in range(rows) for c in range(cols)]
    table = weights["pos_embed"]
    x = torch.stack([patch.flatten(1) @ kernel.T + bias for patch in patches], dim=1) + table[:, -rows * cols :]
    batch = (len(images), -1, -1)
    if "register_tokens" in weights:
        x = torch.cat([weights["register_tokens"].expand(batch), x], dim=1)
    if "cls_token" in weights:
        own_position = table.shape[1] == rows * cols + 1
        cls = weights["cls_token"] + (table[:, :1] if own_position else 0)
        x = torch.cat([cls.expand(batch), x], dim=1)
    taps = []
    for block in (f"blocks.{index}" for index in range(vit.depth)):
        gains = [weights.get(f"{block}.ls{branch}.gamma", 1) for branch in (1, 2)]
        norms = [(weights[f"{block}.norm{n}.weight"], weights[f"{block}.norm{n}.bias"], 1e-6) for n in (1, 2)]
        x = x + gains[0] * plain_attention(plain_layer_norm(x, *norms[0]), weights, f"{block}.attn", vit.num_heads)
        x = x + gains[1] * plain_mlp(plain_layer_norm(x, *norms[1]), weights, f"{block}.mlp")
        taps.append(x)
    return taps


class TestAgainstThePapersCode:
    @pytest.fixture(params=["flsl_tiny_checkpoint", "dino_tiny_checkpoint", "dino_tiny_backbone"])
    def golden(self, request, shared):
        """A ViT with a released-layout checkpoint's weights, and the reference's inputs and tokens."""
        checkpoint = load_checkpoint(shared / f"golden/vit/{request.param}.pth", num_heads=2)
        vit = VisionTransformer(**asdict(checkpoint.facts.architecture)).eval()
        vit.load_state_dict(checkpoint.state_dict)
        expected = {}
        for model in ("flsl", request.param.split("_")[0]):  # the inputs are the same for all and lie in flsl's file
            with np.load(shared / f"golden/vit/{model}_tiny_tokens.npz") as tokens:
                expected |= {name: torch.from_numpy(tokens[name]).float() for name in tokens}
        return vit, expected

    @pytest.mark.parametrize("size", ["224x224", "96x160"])
    def test_tokens_after_every_block(self, golden, size):
        vit, expected = golden
        with torch.no_grad():
            taps = vit.tokens(expected[f"input_{size}"], range(4))
        for index, tap in enumerate(taps):
            torch.testing.assert_close(tap, expected[f"block{index}_{size}"], atol=1e-4, rtol=0)

    @pytest.mark.parametrize("size", ["224x224", "96x160"])
    def test_normed_tokens(self, golden, size):
        vit, expected = golden
        with torch.no_grad():
            (tap,) = vit.tokens(expected[f"input_{size}"], [3], norm=True)
        torch.testing.assert_close(tap, expected[f"norm_{size}"], atol=1e-4, rtol=0)


class TestAgainstAPlainForwardPass:
    @pytest.mark.parametrize("prefix", PREFIXES)
    @pytest.mark.parametrize("layer_scale", [False, True])
    def test_every_kind_of_sequence(self, prefix, layer_scale):
        vit = tiny_vit(layer_scale=layer_scale, **PREFIXES[prefix])
        images = random_images(2, 3, 48, 64)
        for tap, expected in zip(vit.tokens(images, range(3)), plain_tokens(vit, images), strict=True):
            torch.testing.assert_close(tap, expected, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("patch_size", [8, 14, 16])
    def test_every_patch_size(self, patch_size):
        vit = tiny_vit(patch_size=patch_size)
        images = random_images(1, 3, 3 * patch_size, 4 * patch_size)
        torch.testing.assert_close(vit.tokens(images, [2])[0], plain_tokens(vit, images)[2], atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("options", [dict(qkv_bias=False), dict(mlp_ratio=2.0), dict(num_heads=1)])
    def test_other_sizes(self, options):
        vit = tiny_vit(**options)
        images = random_images(1, 3, 48, 64)
        torch.testing.assert_close(vit.tokens(images, [2])[0], plain_tokens(vit, images)[2], atol=1e-5, rtol=1e-4)


class TestPrefixTokens:
    @pytest.mark.parametrize(("prefix", "count"), list(zip(PREFIXES, [0, 1, 1, 5], strict=True)))
    def test_count(self, prefix, count):
        vit = tiny_vit(**PREFIXES[prefix])
        assert vit.num_prefix_tokens == count
        assert vit.tokens(random_images(1, 3, 48, 64), [0])[0].shape == (1, count + 12, 24)

    @pytest.mark.parametrize("prefix", PREFIXES)
    def test_spatial_tokens_are_the_last_in_row_major_order(self, prefix):
        vit = tiny_vit(**PREFIXES[prefix])
        images = random_images(2, 3, 40, 64)
        (tokens,) = vit.tokens(images, [1])
        ((tap, leading),) = vit(images, [1], norm=False, prefix=True)
        assert torch.equal(tap.flatten(2).transpose(1, 2), tokens[:, -12:])
        assert torch.equal(leading, tokens[:, :-12])

    def test_position_table_has_an_entry_for_cls_only_where_asked(self):
        assert tiny_vit(class_token=True).pos_embed.shape == (1, 13, 24)
        assert tiny_vit(class_token=True, class_token_position=False).pos_embed.shape == (1, 12, 24)
        assert tiny_vit(class_token=False, class_token_position=True).pos_embed.shape == (1, 12, 24)

    def test_registers_carry_no_position(self):
        vit = tiny_vit(num_registers=4)
        assert vit.pos_embed.shape == (1, 13, 24)


class TestAnyImageSize:
    @settings(max_examples=60, deadline=None)
    @given(height=st.integers(1, 70), width=st.integers(1, 70), patch_size=st.sampled_from([8, 14, 16]))
    def test_map_has_one_token_for_every_patch_begun(self, height, width, patch_size):
        vit = tiny_vit(patch_size=patch_size, depth=1)
        (tap,) = vit(random_images(1, 3, height, width))
        assert tap.shape == (1, 24, math.ceil(height / patch_size), math.ceil(width / patch_size))
        assert tap.isfinite().all()

    @settings(max_examples=40, deadline=None)
    @given(height=st.integers(1, 70), width=st.integers(1, 70))
    def test_padding_is_zeros_at_the_bottom_and_right(self, height, width):
        vit = tiny_vit(depth=1)
        images = random_images(1, 3, height, width)
        padded = torch.zeros(1, 3, 16 * math.ceil(height / 16), 16 * math.ceil(width / 16))
        padded[..., :height, :width] = images
        assert torch.equal(vit(images)[0], vit(padded)[0])

    @pytest.mark.parametrize("rule", ["scale_factor", "size"])
    def test_position_rule_reaches_the_patches(self, rule):
        vit = tiny_vit(class_token=True, position_rule=rule)
        with torch.no_grad():
            vit.patch_embed.proj.weight.zero_()
            vit.patch_embed.proj.bias.zero_()
        entered = []
        vit.blocks[0].register_forward_pre_hook(lambda module, args: entered.append(args[0]))
        vit.tokens(random_images(1, 3, 32, 96), [0])
        expected = fit_positions(vit.pos_embed[:, 1:], (3, 4), (2, 6), rule)
        assert torch.equal(entered[0][:, 1:], expected)


class TestPositionRules:
    table = torch.randn(1, 14 * 14, 8, generator=torch.Generator().manual_seed(2))
    grid = table.reshape(14, 14, 8).permute(2, 0, 1)[None]

    @pytest.mark.parametrize("target", [(6, 10), (20, 9), (14, 15), (1, 1)])
    def test_scale_factor_is_dinos(self, target):
        scale = ((target[0] + 0.1) / 14, (target[1] + 0.1) / 14)
        expected = F.interpolate(self.grid, scale_factor=scale, mode="bicubic")[0].permute(1, 2, 0)
        fitted = fit_positions(self.table, (14, 14), target, "scale_factor")
        assert torch.equal(fitted.reshape(*target, 8), expected)

    @pytest.mark.parametrize("target", [(6, 10), (20, 9), (14, 15), (1, 1)])
    def test_size_asks_for_the_size(self, target):
        expected = F.interpolate(self.grid, size=target, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
        fitted = fit_positions(self.table, (14, 14), target, "size")
        assert torch.equal(fitted.reshape(*target, 8), expected)

    def test_the_rules_differ(self):
        first, second = (fit_positions(self.table, (14, 14), (6, 10), rule) for rule in ("scale_factor", "size"))
        assert (first - second).abs().max() > 1e-3

    @pytest.mark.parametrize("rule", ["scale_factor", "size"])
    def test_native_size_is_left_as_it_is(self, rule):
        assert fit_positions(self.table, (14, 14), (14, 14), rule) is self.table

    @settings(max_examples=200, deadline=None)
    @given(
        source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
        target=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    )
    def test_scale_factor_gives_every_size_asked(self, source, target):
        fitted = fit_positions(torch.zeros(1, source[0] * source[1], 1), source, target, "scale_factor")
        assert fitted.shape == (1, target[0] * target[1], 1)

    def test_unknown_rule_is_named(self):
        with pytest.raises(ValueError, match="position rule 'nearest' is none of scale_factor, size"):
            fit_positions(self.table, (14, 14), (3, 3), "nearest")

    @pytest.mark.parametrize("rule", ["scale_factor", "size"])
    def test_half_precision_table_is_interpolated_in_fp32(self, rule):
        half = self.table.bfloat16()
        expected = fit_positions(half.float(), (14, 14), (6, 10), rule).bfloat16()
        assert torch.equal(fit_positions(half, (14, 14), (6, 10), rule), expected)

    def test_interpolation_stays_in_fp32_under_autocast(self):
        vit = tiny_vit(class_token=False)
        images = random_images(1, 3, 32, 96)
        entered = []
        vit.blocks[0].register_forward_pre_hook(lambda module, args: entered.append(args[0]))
        expected = fit_positions(vit.pos_embed, (3, 4), (2, 6), "scale_factor").bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vit.tokens(images, [0])
            patches = vit.patch_embed(images)
        assert patches.dtype == entered[0].dtype == torch.bfloat16
        assert torch.equal(entered[0], patches + expected)


class TestFixedPositions:
    def test_table_against_a_loop(self):
        rows, cols, dim = 3, 5, 16
        table = sincos_positions(dim, (rows, cols))[0]
        for row in range(rows):
            for col in range(cols):
                angles = [[place / 10_000 ** (4 * k / dim) for k in range(dim // 4)] for place in (col, row)]
                expected = [f(a) for axis in angles for f in (math.sin, math.cos) for a in axis]
                assert table[row * cols + col].tolist() == pytest.approx(expected, abs=1e-6)

    def test_dimension_must_be_divisible_by_four(self):
        with pytest.raises(ValueError, match="divisible by 4, not 6"):
            sincos_positions(6, (2, 2))

    @pytest.mark.parametrize("class_token", [False, True])
    def test_are_sincos_from_the_start_and_never_trained(self, class_token):
        vit = VisionTransformer(
            embed_dim=24, depth=1, num_heads=2, position_grid=(3, 4), positions="fixed", class_token=class_token
        )
        assert not vit.pos_embed.requires_grad
        assert torch.equal(vit.pos_embed[:, -12:], sincos_positions(24, (3, 4)))
        assert not vit.pos_embed[:, :-12].any()

    def test_a_checkpoint_fills_them(self):
        vit = VisionTransformer(embed_dim=24, depth=1, num_heads=2, position_grid=(3, 4), positions="fixed")
        given = {**vit.state_dict(), "pos_embed": torch.ones(1, 13, 24)}
        vit.load_state_dict(given)
        assert torch.equal(vit.pos_embed, given["pos_embed"])


class TestDropPath:
    def test_does_nothing_in_evaluation(self):
        x = random_images(4, 3, 5)
        assert torch.equal(DropPath(0.9).eval()(x), x)

    def test_keeps_the_mean(self):
        torch.manual_seed(0)
        assert DropPath(0.3)(torch.ones(20_000, 1, 1)).mean().item() == pytest.approx(1, abs=0.02)

    def test_drops_whole_samples(self):
        torch.manual_seed(0)
        samples = DropPath(0.5)(torch.ones(64, 7, 5)).flatten(1)
        assert (samples == samples[:, :1]).all()
        assert set(samples[:, 0].tolist()) == {0.0, 2.0}

    def test_rate_grows_linearly_to_the_last_block(self):
        rates = [block.drop_path.rate for block in tiny_vit(depth=5, drop_path=0.2).blocks]
        assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])

    def test_evaluated_vit_ignores_it(self):
        images = random_images(1, 3, 48, 64)
        assert torch.equal(tiny_vit(drop_path=0.9)(images)[0], tiny_vit(drop_path=0.0)(images)[0])


class TestRecompute:
    @pytest.mark.parametrize("drop_path", [0.0, 0.5])
    def test_gives_equal_gradients(self, drop_path):
        gradients = []
        for recompute in (False, True):
            vit = tiny_vit(recompute=recompute, drop_path=drop_path).train()
            torch.manual_seed(3)
            sum(tap.square().mean() for tap in vit(random_images(2, 3, 48, 64), [0, 2])).backward()
            gradients.append({name: parameter.grad for name, parameter in vit.named_parameters()})
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient, msg=name)

    def test_runs_the_blocks_again_in_the_backward_pass(self):
        vit = tiny_vit(recompute=True).train()
        runs = []
        vit.blocks[1].register_forward_pre_hook(lambda *_: runs.append(1))
        vit(random_images(1, 3, 48, 64))[0].sum().backward()
        assert len(runs) == 2


class TestBlocks:
    @pytest.mark.parametrize("blocks", [[], [1, 0], [1, 1], [-1], [3], [0, 3]])
    def test_not_ascending_or_absent_ones_are_refused(self, blocks):
        with pytest.raises(ConfigError, match=r"must be ascending indices within 0\.\.2"):
            tiny_vit().tokens(random_images(1, 3, 16, 16), blocks)

    def test_after_the_last_one_asked_are_not_run(self):
        vit = tiny_vit()
        run = []
        for index, block in enumerate(vit.blocks):
            block.register_forward_hook(lambda *_, index=index: run.append(index))
        vit.tokens(random_images(1, 3, 16, 16), [0, 1])
        assert run == [0, 1]

    def test_default_is_the_normed_last_one(self):
        vit = tiny_vit()
        images = random_images(1, 3, 48, 64)
        (tap,), (tokens,) = vit(images), vit.tokens(images, [2])
        expected = plain_layer_norm(tokens, vit.norm.weight, vit.norm.bias, 1e-6)[:, 1:].transpose(1, 2)
        torch.testing.assert_close(tap.flatten(2), expected, atol=1e-5, rtol=1e-4)


class TestFacets:
    @pytest.mark.parametrize("prefix", PREFIXES)
    @pytest.mark.parametrize("block", [0, 2])
    @pytest.mark.parametrize("name", FACETS)
    def test_are_what_attention_reads(self, prefix, block, name):
        vit = tiny_vit(**PREFIXES[prefix])
        images, read = random_images(2, 3, 48, 64), []
        vit.blocks[block].attn.qkv.register_forward_hook(lambda module, args, output: read.append(output))
        with torch.no_grad():
            vit.tokens(images, range(3))
            facet = vit.facet(images, block, name)
        heads = read[0].unflatten(2, (3, 2, 12))[:, :, FACETS.index(name)]  # [B, N, heads, channels of a head]
        torch.testing.assert_close(facet, heads.flatten(2))

    def test_nothing_behind_is_run(self):
        vit, run = tiny_vit(), []
        for index, block in enumerate(vit.blocks):
            block.attn.proj.register_forward_hook(lambda *_, index=index: run.append(index))
        vit.facet(random_images(1, 3, 16, 16), 1, "key")
        assert run == [0]

    def test_unknown_ones_are_refused(self):
        with pytest.raises(ConfigError, match="facet 'token' is none of query, key, value"):
            tiny_vit().facet(random_images(1, 3, 16, 16), 0, "token")
        with pytest.raises(ConfigError, match=r"must be ascending indices within 0\.\.2"):
            tiny_vit().facet(random_images(1, 3, 16, 16), 3, "key")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_heads=5), "embed_dim 24 is not divisible by num_heads 5"),
        (dict(positions="none"), "positions 'none' is neither 'learned' nor 'fixed'"),
        (dict(position_rule="nearest"), "position_rule 'nearest' is none of scale_factor, size"),
    ],
)
def test_arguments_that_make_no_vit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_vit(**options)
