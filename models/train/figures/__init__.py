"""What is exported, drawn, judged and told of a training."""
