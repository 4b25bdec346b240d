"""The folder of finished products: whole or not there, verified when read, never lost by tidying.

`products` holds the store, `sums` what a product is by its content, `ledger` what was made of each
subject, `durable` how files are written, `locks` who is at work, `tidying` what may go.
"""

from storyforge.store.durable import write_whole
from storyforge.store.ledger import Entry, Ledger
from storyforge.store.products import Product, Shelf, Store
from storyforge.store.sums import fingerprint, size_of

__all__ = ["Entry", "Ledger", "Product", "Shelf", "Store", "fingerprint", "size_of", "write_whole"]
