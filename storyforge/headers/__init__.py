"""What model files say of themselves, read from their headers: no torch, no numbers, no code run.

`header` reads what a file holds, `checked` refuses what it cannot hold, `names` which layer of
which model each tensor belongs to, `kinds` what the whole is and who wrote it, `bases` what kind of
model a base is.
"""
