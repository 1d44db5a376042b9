"""The latent world model: encoder, dynamics, heads, contrastive losses and objectives."""
