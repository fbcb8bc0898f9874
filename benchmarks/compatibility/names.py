"""The architectures of the table. The list was written before the first run: none leaves it, and
what cannot be captured is a row with its reason.

Each is built from a configuration with random weights, so that nothing is downloaded: the smallest
variant of a family, few classes, the smallest input that it was made for. Networks of transformers
are real classes with small settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LIBRARIES = ("torchvision", "timm", "transformers")
CLASSES, VOCABULARY, LENGTH = 10, 99, 12


@dataclass(frozen=True)
class Architecture:
    """One network of the table.

    Attributes:
        library: one of ``LIBRARIES``.
        name: of the function, of the registered model, or of the class.
        inputs: which kind it is called with, one of ``models.INPUTS``.
        size: side of the images, pixels; or samples of sound.
        examples: in a batch.
        settings: arguments of the function, or of the configuration.
        configuration: name of the configuration's class (transformers alone).
    """

    library: str
    name: str
    inputs: str = "image"
    size: int = 64
    examples: int = 4
    settings: Mapping[str, Any] = field(default_factory=dict)
    configuration: str = ""


def _torchvision(
    name: str, size: int = 64, inputs: str = "image", examples: int = 4, **settings: Any
) -> Architecture:
    own = {"num_classes": CLASSES} | settings
    return Architecture("torchvision", name, inputs, size, examples, own)


def _timm(name: str, size: int = 64, sized: bool = False, examples: int = 4) -> Architecture:
    """A model of timm; ``sized`` ones are built for their size of images."""
    own = {"num_classes": CLASSES} | ({"img_size": size} if sized else {})
    return Architecture("timm", name, "image", size, examples, own)


def _transformers(
    name: str, configuration: str, inputs: str = "text", size: int = 32, **settings: Any
) -> Architecture:
    own = {"num_labels": CLASSES} | settings
    return Architecture("transformers", name, inputs, size, 4, own, f"{configuration}Config")


# Sizes of most text models, under the names that most configurations share.
_TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = _TEXT | {"num_key_value_heads": 2, "head_dim": 8}
_TYPES = _TEXT | {"type_vocab_size": 2}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_TWO_STACKS: dict[str, Any] = {  # encoder and decoder, as BART names them
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_SOUND: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 32,
    "conv_dim": (32, 32),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
_RESNET: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [16, 24, 32, 40],
    "depths": [1, 1, 2, 1],
}

TORCHVISION = (
    _torchvision("alexnet"),
    _torchvision("vgg11"),
    _torchvision("vgg11_bn"),
    _torchvision("resnet18"),
    _torchvision("resnet50"),
    _torchvision("resnext50_32x4d"),
    _torchvision("wide_resnet50_2"),
    _torchvision("densenet121"),
    _torchvision("squeezenet1_0"),
    _torchvision("squeezenet1_1"),
    _torchvision("shufflenet_v2_x0_5"),
    _torchvision("mobilenet_v2"),
    _torchvision("mobilenet_v3_small"),
    _torchvision("mobilenet_v3_large"),
    _torchvision("mnasnet0_5"),
    _torchvision("googlenet", init_weights=False),
    _torchvision("inception_v3", 96, init_weights=False),
    _torchvision("efficientnet_b0"),
    _torchvision("efficientnet_v2_s"),
    _torchvision("regnet_x_400mf"),
    _torchvision("regnet_y_400mf"),
    _torchvision("convnext_tiny"),
    _torchvision("vit_b_16", 32, image_size=32),
    _torchvision("swin_t"),
    _torchvision("swin_v2_t"),
    _torchvision("maxvit_t", 224, examples=2),
    _torchvision("fcn_resnet50"),
    _torchvision("deeplabv3_resnet50"),
    _torchvision("lraspp_mobilenet_v3_large"),
    Architecture("torchvision", "raft_small", "two images", 128, 2),
    _torchvision("r3d_18", 32, "video"),
    _torchvision("mc3_18", 32, "video"),
    _torchvision("r2plus1d_18", 32, "video"),
    _torchvision("swin3d_t", 32, "video"),
)

TIMM = (
    _timm("beit_base_patch16_224", sized=True),
    _timm("botnet26t_256", sized=True),
    _timm("cait_xxs24_224", sized=True),
    _timm("coat_lite_tiny", sized=True),
    _timm("coatnet_0_rw_224", sized=True),
    _timm("convit_tiny", sized=True),
    _timm("convmixer_768_32"),
    _timm("convnextv2_atto"),
    _timm("crossvit_9_240"),
    _timm("cs3darknet_s"),
    _timm("davit_tiny"),
    _timm("deit_tiny_distilled_patch16_224", sized=True),
    _timm("dla34"),
    _timm("dpn48b"),
    _timm("edgenext_xx_small"),
    _timm("efficientformer_l1", 224, examples=2),
    _timm("efficientformerv2_s0", sized=True),
    _timm("efficientnet_b0"),
    _timm("efficientvit_b0"),
    _timm("efficientvit_m0"),
    _timm("eva02_tiny_patch14_224", 56, sized=True),
    _timm("fasternet_t0"),
    _timm("fastvit_t8"),
    _timm("focalnet_tiny_srf"),
    _timm("gcvit_xxtiny", sized=True),
    _timm("ghostnet_050"),
    _timm("gmlp_ti16_224", sized=True),
    _timm("halonet26t", 256, examples=2),
    _timm("hiera_tiny_224", sized=True),
    _timm("hrnet_w18_small"),
    _timm("inception_next_atto"),
    _timm("inception_resnet_v2", 96),
    _timm("lcnet_035"),
    _timm("levit_128s", sized=True),
    _timm("mambaout_femto"),
    _timm("mixer_s32_224", sized=True),
    _timm("mobilenetv3_small_050"),
    _timm("mobileone_s0"),
    _timm("mobilevit_xxs"),
    _timm("mobilevitv2_050"),
    _timm("mvitv2_tiny", sized=True),
    _timm("nest_tiny", sized=True),
    _timm("nf_resnet26"),
    _timm("pit_ti_224", sized=True),
    _timm("poolformer_s12"),
    _timm("pvt_v2_b0"),
    _timm("regnetx_002"),
    _timm("regnety_002"),
    _timm("repghostnet_050"),
    _timm("repvgg_a0"),
    _timm("repvit_m0_9"),
    _timm("res2net50_14w_8s"),
    _timm("resmlp_12_224", sized=True),
    _timm("resnest14d"),
    _timm("resnet18"),
    _timm("resnetv2_18"),
    _timm("rexnet_100"),
    _timm("selecsls42"),
    _timm("sequencer2d_s"),
    _timm("skresnet18"),
    _timm("starnet_s050"),
    _timm("swin_tiny_patch4_window7_224", sized=True),
    _timm("swinv2_tiny_window8_256", sized=True),
    _timm("tiny_vit_5m_224"),
    _timm("tnt_s_patch16_224", sized=True),
    _timm("tresnet_m"),
    _timm("twins_svt_small"),
    _timm("visformer_tiny", sized=True),
    _timm("vit_tiny_patch16_224", sized=True),
    _timm("vit_relpos_small_patch16_224", sized=True),
    _timm("volo_d1_224", sized=True),
    _timm("vovnet39a"),
    _timm("xception41"),
    _timm("xcit_nano_12_p16_224"),
)

TRANSFORMERS = (
    # text, one stack that looks back only
    _transformers(
        "GPT2LMHeadModel",
        "GPT2",
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _transformers(
        "GPTNeoForCausalLM",
        "GPTNeo",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _transformers("GPTNeoXForCausalLM", "GPTNeoX", **_TEXT),
    _transformers(
        "GPTJForCausalLM",
        "GPTJ",
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        rotary_dim=4,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _transformers("LlamaForCausalLM", "Llama", **_GROUPED),
    _transformers("MistralForCausalLM", "Mistral", **_GROUPED, sliding_window=8),
    _transformers(
        "MixtralForCausalLM",
        "Mixtral",
        **_GROUPED,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
    _transformers("Qwen2ForCausalLM", "Qwen2", **_GROUPED),
    _transformers("Qwen3ForCausalLM", "Qwen3", **_GROUPED),
    _transformers("GemmaForCausalLM", "Gemma", **_GROUPED),
    _transformers("Gemma2ForCausalLM", "Gemma2", **_GROUPED),
    _transformers("PhiForCausalLM", "Phi", **_TEXT),
    _transformers(
        "FalconForCausalLM",
        "Falcon",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _transformers(
        "BloomForCausalLM",
        "Bloom",
        vocab_size=VOCABULARY,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
    _transformers(
        "OPTForCausalLM",
        "OPT",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _transformers(
        "MambaForCausalLM",
        "Mamba",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    # text, one stack that looks both ways
    _transformers("BertForSequenceClassification", "Bert", **_TYPES),
    _transformers("RobertaForSequenceClassification", "Roberta", **_TYPES),
    _transformers(
        "DistilBertForSequenceClassification",
        "DistilBert",
        vocab_size=VOCABULARY,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=64,
        pad_token_id=0,
    ),
    _transformers(
        "AlbertForSequenceClassification",
        "Albert",
        **_TYPES,
        embedding_size=16,
    ),
    _transformers("ElectraForSequenceClassification", "Electra", **_TYPES, embedding_size=16),
    _transformers(
        "DebertaV2ForSequenceClassification",
        "DebertaV2",
        **_TEXT,
        type_vocab_size=0,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
    ),
    _transformers("MPNetForSequenceClassification", "MPNet", **_TEXT),
    _transformers(
        "SqueezeBertForSequenceClassification",
        "SqueezeBert",
        **_TYPES,
        embedding_size=32,
        q_groups=2,
        k_groups=2,
        v_groups=2,
        intermediate_groups=2,
        output_groups=2,
    ),
    _transformers(
        "XLNetForSequenceClassification",
        "XLNet",
        vocab_size=VOCABULARY,
        d_model=32,
        n_layer=2,
        n_head=4,
        d_inner=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    _transformers(
        "LongformerForSequenceClassification",
        "Longformer",
        **_TYPES,
        attention_window=[4, 4],
    ),
    _transformers(
        "FNetForSequenceClassification",
        "FNet",
        "plain text",
        **{k: v for k, v in _TYPES.items() if k != "num_attention_heads"},
    ),
    _transformers(
        "FunnelForSequenceClassification",
        "Funnel",
        vocab_size=VOCABULARY,
        block_sizes=[1, 1],
        num_decoder_layers=1,
        d_model=32,
        n_head=4,
        d_head=8,
        d_inner=64,
        max_position_embeddings=64,
        pad_token_id=0,
    ),
    # text, two stacks
    _transformers(
        "T5ForConditionalGeneration",
        "T5",
        "two texts",
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    ),
    _transformers("BartForConditionalGeneration", "Bart", "two texts", **_TWO_STACKS),
    _transformers("MarianMTModel", "Marian", "two texts", **_TWO_STACKS),
    _transformers("PegasusForConditionalGeneration", "Pegasus", "two texts", **_TWO_STACKS),
    # images
    _transformers("ViTForImageClassification", "ViT", "pixels", **_VISION),
    _transformers("DeiTForImageClassification", "DeiT", "pixels", **_VISION),
    _transformers(
        "BeitForImageClassification",
        "Beit",
        "pixels",
        **_VISION,
        use_relative_position_bias=True,
        layer_scale_init_value=0.1,
    ),
    _transformers("Dinov2ForImageClassification", "Dinov2", "pixels", **_VISION),
    _transformers(
        "SwinForImageClassification",
        "Swin",
        "pixels",
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[1, 2, 1],
        num_heads=[2, 2, 4],
        window_size=4,
    ),
    _transformers(
        "ConvNextForImageClassification",
        "ConvNext",
        "pixels",
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 2, 1],
        layer_scale_init_value=0.1,
    ),
    _transformers(
        "ResNetForImageClassification", "ResNet", "pixels", 64, **_RESNET, layer_type="basic"
    ),
    _transformers(
        "RegNetForImageClassification", "RegNet", "pixels", 64, **_RESNET, groups_width=8
    ),
    _transformers(
        "PoolFormerForImageClassification",
        "PoolFormer",
        "pixels",
        64,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_scale_init_value=0.1,
    ),
    _transformers(
        "MobileViTForImageClassification",
        "MobileViT",
        "pixels",
        64,
        image_size=64,
        hidden_sizes=[24, 32, 40],
        neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64],
        initializer_range=0.3,
        num_attention_heads=4,
    ),
    _transformers(
        "SegformerForSemanticSegmentation",
        "Segformer",
        "pixels",
        64,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=32,
    ),
    _transformers(
        "DetrForObjectDetection",
        "Detr",
        "pixels",
        64,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        init_std=0.2,
        num_queries=6,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config={
            "model_type": "resnet",
            "out_features": ["stage4"],
            **_RESNET,
            "layer_type": "basic",
        },
    ),
    # sound, and text with images
    _transformers("Wav2Vec2ForCTC", "Wav2Vec2", "sound", 800, **_SOUND),
    _transformers("HubertForCTC", "Hubert", "sound", 800, **_SOUND),
    _transformers(
        "WhisperForConditionalGeneration",
        "Whisper",
        "spectrogram",
        32,
        **{
            k: v
            for k, v in _TWO_STACKS.items()
            if k not in ("max_position_embeddings", "forced_eos_token_id")
        },
        num_mel_bins=16,
        max_source_positions=16,
        max_target_positions=64,
    ),
    _transformers(
        "CLIPModel",
        "CLIP",
        "text and image",
        projection_dim=16,
        text_config=_TEXT,
        vision_config=_VISION,
    ),
)

ALL = (*TORCHVISION, *TIMM, *TRANSFORMERS)


def found(library: str, name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        KeyError: there is none.
    """
    return {(a.library, a.name): a for a in ALL}[library, name]
