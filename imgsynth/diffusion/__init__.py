"""Images from noise: small diffusion models trained here, with the labels that they were asked for.

torch, diffusers and accelerate are used in this room alone, inside functions or in modules that are imported
when a command runs; what comes in and goes out is numpy.
"""
