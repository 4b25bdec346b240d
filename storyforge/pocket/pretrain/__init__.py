"""Training of the embedded model from nothing but the illustrator: tokenizer, VAE, text and U-Net.

`python -m storyforge.pocket.pretrain --help`. Every stage takes a budget in minutes, leaves a
checkpoint and goes on from it, or, where there is none, from the weights that the package ships.
"""
