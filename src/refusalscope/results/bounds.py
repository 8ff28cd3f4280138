"""The largest numbers that a user may give, on the command line, in a config or in a run folder.

A count of 10^18 is a slip of the hand that would be worked on for ever, a seed beyond 32 bits is
none for some of the libraries that take it, and a factor beyond float32 makes infinity of weights.
"""

MOST = 1_000_000
"""The largest count: of instructions, tokens, texts, steps, tries."""
LAST_SEED = 2**32 - 1
LARGEST_FACTOR = 1e6
"""The largest size of a limit, a share or a factor, of either sign."""
