"""Tables of real training curves, and the code that makes and reads them."""
