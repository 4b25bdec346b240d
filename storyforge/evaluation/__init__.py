"""What is measured with pictures: whole protocols, from concepts to a page of results.

`story` judges one story's concepts. `gallery`, `judge` and `results` are what
protocols share: pictures that are drawn once, the CLIP that looks at them, and where results go.
"""
