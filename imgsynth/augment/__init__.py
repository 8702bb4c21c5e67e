"""Scarce classes: generated images added where a labelled set has too few, and what that is worth.

    from imgsynth.augment.options import Options
    from imgsynth.augment.run import augment results = augment(Options(real="signs#train",
    out=Path("out"), scenes=("traffic_signs",), test="signs#test"))

`sets` reads and splits, `sources` make images of a class, `rounds` decide how many of each class by what
validation images say, `arms` are the plain baselines and the training with generated images, `measure`
compares them on test images, `mix` writes the training set that won.
"""
