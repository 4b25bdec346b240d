"""Training of the embedded model from nothing but the illustrator: tokenizer, VAE, text and U-Net.

`python -m storyforge.pocket.pretrain --help`. Every stage takes a budget in minutes.
`vae`, `unet` and `polish` leave a checkpoint and go on from it; without one `unet` and `polish`
start from the weights that the package ships, `vae` from nothing. `text` always starts anew.
Latents are kept in the folder: after another `vae`, take another folder.
"""
