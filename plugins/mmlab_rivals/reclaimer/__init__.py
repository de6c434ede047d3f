"""Reclaimers from textbooks and papers, a file a policy."""

from mmlab_rivals.reclaimer.arc import ARC
from mmlab_rivals.reclaimer.clock import CLOCK
from mmlab_rivals.reclaimer.fifo import FIFO
from mmlab_rivals.reclaimer.lirs import LIRS
from mmlab_rivals.reclaimer.lru import LRU
from mmlab_rivals.reclaimer.opt import OPT
from mmlab_rivals.reclaimer.s3_fifo import S3_FIFO
from mmlab_rivals.reclaimer.sieve import SIEVE
from mmlab_rivals.reclaimer.two_q import TWO_Q

RECLAIMERS = [FIFO, CLOCK, LRU, OPT, SIEVE, S3_FIFO, TWO_Q, ARC, LIRS]
