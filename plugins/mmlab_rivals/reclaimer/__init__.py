"""Reclaimers from textbooks and papers, a file a policy."""

from mmlab_rivals.reclaimer.arc import ARC
from mmlab_rivals.reclaimer.car import CAR
from mmlab_rivals.reclaimer.clock import CLOCK
from mmlab_rivals.reclaimer.clock_pro import CLOCK_PRO
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.gclock import GCLOCK
from mmlab_rivals.reclaimer.lfu import LFU
from mmlab_rivals.reclaimer.lirs import LIRS
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.lru_k import LRU_K
from mmlab_rivals.reclaimer.opt import OPT
from mmlab_rivals.reclaimer.random_page import RANDOM
from mmlab_rivals.reclaimer.s3_fifo import S3_FIFO
from mmlab_rivals.reclaimer.sieve import SIEVE
from mmlab_rivals.reclaimer.two_q import TWO_Q
from mmlab_rivals.reclaimer.w_tinylfu import W_TINYLFU
from mmlab_rivals.reclaimer.wsclock import WSCLOCK

RECLAIMERS = [
    FIFO, RANDOM, CLOCK, GCLOCK, WSCLOCK, LRU, LRU_K, LFU, SIEVE, S3_FIFO, TWO_Q, ARC, CAR, LIRS, CLOCK_PRO, W_TINYLFU, OPT,
]  # fmt: skip
