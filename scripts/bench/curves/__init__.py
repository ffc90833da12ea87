"""Tables of real training curves, and what makes and reads them."""
