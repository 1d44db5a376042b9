"""Views for standalone pretraining: random numbers -> parameters -> images, each step by itself."""
