#!/usr/bin/env python3
"""Transcribes two seconds of silence with whisper.cpp (pywhispercpp): transcribe.py MODEL THREADS TOKENS

With random weights what it writes is noise, but the graphs are those of a real model.
"""

import sys
import time

import numpy as np
from pywhispercpp.model import Model

SAMPLE_RATE = 16_000
PAUSE_SECS = 1.0  # libraries are loaded; time for a recorder to attach

path, threads, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = Model(path, n_threads=threads, print_progress=False, print_realtime=False)
time.sleep(PAUSE_SECS)
model.transcribe(
    np.zeros(2 * SAMPLE_RATE, dtype=np.float32),
    single_segment=True,
    no_context=True,
    no_timestamps=True,
    temperature_inc=0.0,  # no second try at a higher temperature
    max_tokens=tokens,
)
