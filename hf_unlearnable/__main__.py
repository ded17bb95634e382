"""``python -m hf_unlearnable`` is the command ``hf-unlearnable``."""

from hf_unlearnable.cli import main

if __name__ == "__main__":
    main()
