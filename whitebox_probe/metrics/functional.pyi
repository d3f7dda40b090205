# Made of the code by docs/stubs.py; change that, and run it again.
"""Every measure as a pure function on tensors, gathered from the files of this folder.

Each looks at its arguments first: a ShapeError for what is no tensor of real numbers of a shape
that fits, a SettingError for a number or a choice that cannot be.
"""

from whitebox_probe.metrics.attention import attention_class_share as attention_class_share
from whitebox_probe.metrics.attention import attention_distance as attention_distance
from whitebox_probe.metrics.attention import attention_entropy as attention_entropy
from whitebox_probe.metrics.class_rate import class_rates as class_rates
from whitebox_probe.metrics.coding_rate import coding_rate as coding_rate
from whitebox_probe.metrics.coherence import chordal_distance as chordal_distance
from whitebox_probe.metrics.coherence import coherence as coherence
from whitebox_probe.metrics.coherence import frobenius_coherence as frobenius_coherence
from whitebox_probe.metrics.coherence import mutual_coherence as mutual_coherence
from whitebox_probe.metrics.coherence import overlap as overlap
from whitebox_probe.metrics.coherence import principal_angles as principal_angles
from whitebox_probe.metrics.coherence import random_coherence as random_coherence
from whitebox_probe.metrics.compression import compression as compression
from whitebox_probe.metrics.compression import official_bounds as official_bounds
from whitebox_probe.metrics.compression import official_compression as official_compression
from whitebox_probe.metrics.descent import compression_gradient as compression_gradient
from whitebox_probe.metrics.descent import descent_achieved as descent_achieved
from whitebox_probe.metrics.descent import descent_cosine as descent_cosine
from whitebox_probe.metrics.descent import mssa_with_u as mssa_with_u
from whitebox_probe.metrics.geometry import mean_cosine as mean_cosine
from whitebox_probe.metrics.geometry import token_norm as token_norm
from whitebox_probe.metrics.intrinsic_dimension import intrinsic_dimension as intrinsic_dimension
from whitebox_probe.metrics.lasso import lasso_kkt as lasso_kkt
from whitebox_probe.metrics.lasso import lasso_objective as lasso_objective
from whitebox_probe.metrics.lasso import lasso_optimum as lasso_optimum
from whitebox_probe.metrics.neural_collapse import neural_collapse as neural_collapse
from whitebox_probe.metrics.rate_change import shared_update as shared_update
from whitebox_probe.metrics.rate_change import shuffled_update as shuffled_update
from whitebox_probe.metrics.rate_change import split_update as split_update
from whitebox_probe.metrics.rate_reduction import rate_reduction as rate_reduction
from whitebox_probe.metrics.rate_reduction import sparse_rate_reduction as sparse_rate_reduction
from whitebox_probe.metrics.signal_to_noise import token_clusters as token_clusters
from whitebox_probe.metrics.signal_to_noise import token_snr as token_snr
from whitebox_probe.metrics.signal_to_noise import token_snr_entropy as token_snr_entropy
from whitebox_probe.metrics.signal_to_noise import token_snr_growth as token_snr_growth
from whitebox_probe.metrics.similarity import cka as cka
from whitebox_probe.metrics.similarity import procrustes_distance as procrustes_distance
from whitebox_probe.metrics.similarity import sample_overlap as sample_overlap
from whitebox_probe.metrics.sparsity import excess_kurtosis as excess_kurtosis
from whitebox_probe.metrics.sparsity import gini as gini
from whitebox_probe.metrics.sparsity import hoyer as hoyer
from whitebox_probe.metrics.sparsity import l0 as l0
from whitebox_probe.metrics.sparsity import l1_l2 as l1_l2
from whitebox_probe.metrics.sparsity import thresholded as thresholded
from whitebox_probe.metrics.sparsity import treves_rolls as treves_rolls
from whitebox_probe.metrics.spectrum import effective_rank as effective_rank
from whitebox_probe.metrics.spectrum import participation_ratio as participation_ratio
from whitebox_probe.metrics.spectrum import rank_me as rank_me
from whitebox_probe.metrics.spectrum import spectral_decay as spectral_decay
from whitebox_probe.metrics.spectrum import stable_rank as stable_rank
from whitebox_probe.metrics.spectrum import token_spectrum as token_spectrum
from whitebox_probe.metrics.variational import variational_compression as variational_compression
