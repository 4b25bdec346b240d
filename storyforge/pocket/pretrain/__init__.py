"""Training of the embedded model from nothing but the illustrator: tokenizer, VAE, text and U-Net.

`python -m storyforge.pocket.pretrain --help`. Every stage takes a budget in minutes.
`vae`, `unet` and `polish` leave a checkpoint and go on from it; without one `unet` and `polish`
start from the weights that the package ships, `vae` from nothing. `text` always starts anew.
`keypose`, `sketch` and `controlnet-sketch` train control for the shipped weights, which stay as
they are, and go on from a checkpoint, too.
Latents are kept in the folder: after another `vae`, take another folder.
"""
