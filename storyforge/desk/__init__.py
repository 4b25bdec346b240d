"""The desk: a page in the browser, on this machine alone, that shows a book while it is written."""
