"""Checkpoints: what the registry says of them, how to get them, how to read them safely.

`checkpoints.yaml` is the one list. Nothing here imports torch until weights are read, so listing
the registry is quick.
"""

from whitebox_probe.checkpoints._described import CACHE_VARIABLE as CACHE_VARIABLE
from whitebox_probe.checkpoints._described import cache_dir as cache_dir
from whitebox_probe.checkpoints._fetch import by_hand as by_hand
from whitebox_probe.checkpoints._fetch import fetch as fetch
from whitebox_probe.checkpoints._fetch import fetch_files as fetch_files
from whitebox_probe.checkpoints._fetch import locate as locate
from whitebox_probe.checkpoints._registry import REGISTRY_VARIABLE as REGISTRY_VARIABLE
from whitebox_probe.checkpoints._registry import Checkpoint as Checkpoint
from whitebox_probe.checkpoints._registry import architecture as architecture
from whitebox_probe.checkpoints._registry import architectures as architectures
from whitebox_probe.checkpoints._registry import entry as entry
from whitebox_probe.checkpoints._registry import registry as registry
from whitebox_probe.checkpoints._registry import registry_path as registry_path
from whitebox_probe.checkpoints._shards import digest as digest
from whitebox_probe.checkpoints._shards import expect_whole as expect_whole
from whitebox_probe.checkpoints._shards import is_index as is_index
from whitebox_probe.checkpoints._shards import named as named
from whitebox_probe.checkpoints._shards import of_transformers as of_transformers
from whitebox_probe.checkpoints._shards import title as title
from whitebox_probe.checkpoints._shards import weights_in as weights_in
from whitebox_probe.checkpoints._tensors import same as same
from whitebox_probe.checkpoints._training import read_script as read_script
from whitebox_probe.checkpoints._unwrapping import listed as listed
from whitebox_probe.checkpoints._unwrapping import without_wrappers as without_wrappers
from whitebox_probe.checkpoints._weights import ARCHITECTURES as ARCHITECTURES
from whitebox_probe.checkpoints._weights import HEADS as HEADS
from whitebox_probe.checkpoints._weights import check_keys as check_keys
from whitebox_probe.checkpoints._weights import is_floating as is_floating
from whitebox_probe.checkpoints._weights import not_floating as not_floating
from whitebox_probe.checkpoints._weights import read_arguments as read_arguments
from whitebox_probe.checkpoints._weights import read_state_dict as read_state_dict
from whitebox_probe.checkpoints._weights import read_weights as read_weights
