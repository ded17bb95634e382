"""The app as a Space, where everybody may come: it listens at all addresses, and a visitor may send half a gigabyte."""

from hf_unlearnable.app.server import launch

if __name__ == "__main__":  # pieces of work are processes, which import this file
    launch("0.0.0.0", 7860, room=500_000_000)
