"""Speed and quality of encoders and rerankers; speed of training."""
