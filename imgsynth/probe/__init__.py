"""Experiments on a scene: variants of it rendered, learned from and scored on real images, all else held
fixed. `ablate`, `knob` and `tune` differ in which variants they try.
"""
