"""What is measured with pictures: whole protocols, from concepts to a page of results.

`story` judges one story's concepts, `fusion` compares ways to fuse many. They share what is asked
(`asking`), a folder of concepts (`cast`), pictures that are drawn once (`gallery`), who drew what
(`exhibition`), the CLIP that looks at them (`judge`), and where figures go (`results`).
"""
