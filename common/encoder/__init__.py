"""BERT, pooling, whitening and LoRA: the only door to transformers and peft."""
