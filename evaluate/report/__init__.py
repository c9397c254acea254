"""The report: figures computed once, and the files made from them."""
