"""Train: distributed training, fine-tuning, evaluation, export."""
