"""Encoders from recorded experience alone: methods, their gradients, and the loop that trains them."""
