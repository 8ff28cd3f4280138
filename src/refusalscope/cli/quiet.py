"""Keep libraries from talking over our one line of output."""


def quiet_libraries() -> None:
    """Errors only, through our own handler, and no progress bars of their own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_default_handler()
    logging.enable_propagation()
    logging.disable_progress_bar()
