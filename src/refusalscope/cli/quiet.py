"""Keep libraries from talking over our one line of output."""


def quiet_libraries() -> None:
    """Errors only, no progress bars of their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
