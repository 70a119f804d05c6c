"""One file a paper, parts put together, and the harness that measures whether its claim holds."""
