"""Documents and digits in, actions out; pure. Holds nothing until calls can be steered."""
