"""What runs of ours say to the questions that the audit asks.

`inputs`: what the image and each field of metadata contribute. `assumptions`: what each choice that the paper leaves open
changes. `command` runs them over several seeds and writes their tables to `data/results/`; notebook 07 draws from these.
"""
