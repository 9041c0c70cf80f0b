"""Convolutions on the sphere S2 and on the rotation group SO(3), after Cohen et al. (ICLR 2018).

Signals live on the SOFT grid of a bandwidth b: `[B, C, beta, alpha]` on S2, `[B, C, beta, alpha, gamma]` on SO(3),
every spatial axis of length 2b, beta_j = pi (2j + 1) / (4b), alpha_k = gamma_k = pi k / b.

How it is computed. For real signals the complex spectrum obeys x_{-m,-n} = (-1)^(m-n) conj x_{mn}, so a unitary change
of basis makes it real (`layout`): half the memory, a quarter of the mixing work, and every step below is a real matrix
product. A transform is a Fourier matrix in gamma, one in alpha, and one Wigner table product per pair of orders,
batched over the pairs (`transform`); the table uses every symmetry of d, so it is eight times smaller (`tables`).
"""
