"""A causal language model of a few thousand weights with a tokenizer of characters, for tests of local judges."""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "</s>", "[/INST]"]


def tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """Printable ASCII, one token a character, and five control tokens."""
    characters = ["\n", *map(chr, range(32, 127))]
    vocabulary = {token: i for i, token in enumerate([*CONTROL, "?unknown?", *characters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="?unknown?"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        unk_token="?unknown?",
        additional_special_tokens=["<|im_start|>", "</s>", "[/INST]"],
    )
    made.chat_template = CHAT if chat else None
    return made


def model(words: PreTrainedTokenizerFast, *, seed: int = 0, context: int = 2048) -> LlamaForCausalLM:
    """Random weights on a fixed seed."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
    )
    return LlamaForCausalLM(config).eval()
