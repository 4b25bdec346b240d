"""Pictures and words become a book: `page` composes it, `pdf` and `html` write it down."""
