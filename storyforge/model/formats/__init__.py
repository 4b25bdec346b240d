"""Files of other tools, read and written exactly: one file a format.

Adapters are read by `adapter`, with the formula of each kind beside it; concepts by `foreign`.
"""
