"""The environment of all tests: the Hugging Face clients read it when they are imported, so this is imported first."""

from __future__ import annotations

import os
import sys
import tempfile

from helpers.loopback_hub import WRITE_TOKEN, LoopbackHub

assert not {"huggingface_hub", "datasets", "transformers"} & set(sys.modules), "imported before their environment"
HUB = LoopbackHub().start()
os.environ["HF_ENDPOINT"] = HUB.url  # nothing here can reach the real Hub
os.environ["HF_TOKEN"] = WRITE_TOKEN
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_XET"] = "1"  # no answer of a server makes the clients fall back to LFS
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # would ask another host
os.environ["NO_PROXY"] = "127.0.0.1,localhost"
os.environ.pop("HF_HUB_OFFLINE", None)
os.environ["OMP_NUM_THREADS"] = "1"  # a core for each worker, and for what it starts; the same where there is one
# Threads that wait for one another by spinning take ten times as long where other tests have the cores.
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # CPU results are bit for bit the same; a GPU's need not be
