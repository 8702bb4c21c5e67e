"""What a generated sample must pass: a label that others agree with, no copy of a training image, no twin."""
