"""What is measured with pictures: whole protocols, from concepts to a page of results.

`story` judges one story's concepts, `fusion` compares ways to fuse many, `regions` ways to compose.
They share what is asked (`questions`), a folder of concepts (`concept_set`), pictures that are
drawn once (`gallery`), who drew what (`answers`), the CLIP that looks at them (`judge`), and where
figures go (`results`, `report`).
"""
