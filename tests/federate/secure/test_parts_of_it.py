"""What secure sums are made of: shares, whole numbers, arithmetic in a prime field, masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.federate.core.secure import primitives, shamir
from nexus.federate.core.secure.coding import Coding
from nexus.federate.core.secure.prime import PRIME, lagrange, product, uniform
from nexus.kernel.errors import JobError
from tests.federate.secure.parties import fresh

pytestmark = pytest.mark.torch
SECRETS = st.binary(min_size=32, max_size=32)


@settings(max_examples=50, deadline=None)
@given(secret=SECRETS, count=st.integers(2, 12), data=st.data())
def test_any_threshold_of_shares_give_the_secret_back(secret, count, data):
    threshold = data.draw(st.integers(2, count))
    shares = shamir.split(secret, threshold, count, fresh("shares"))
    assert {len(share) for share in shares} == {shamir.SHARE_B}
    points = data.draw(st.permutations(range(1, count + 1)))[:threshold]
    assert shamir.join([shares[point - 1] for point in points], shamir.weights(points)) == secret


@settings(max_examples=30, deadline=None)
@given(secret=SECRETS, other=SECRETS)
def test_fewer_shares_fit_every_secret_alike(secret, other):
    """With t - 1 shares, there is a last one for whatever secret: they say nothing of it."""
    known = shamir.split(secret, 3, 3, fresh("x"))[:2]
    counted = shamir.weights([1, 2, 3])
    rest = sum(int.from_bytes(s, "big") * w for s, w in zip(known, counted, strict=False))
    last = (int.from_bytes(other, "big") - rest) * pow(counted[2], -1, shamir.PRIME) % shamir.PRIME
    assert shamir.join([*known, last.to_bytes(33, "big")], counted) == other


def test_shares_of_no_secret_are_noticed():
    with pytest.raises(JobError, match="do not fit"):
        shamir.join([(shamir.PRIME - 1).to_bytes(33, "big")], [1])


@settings(max_examples=60, deadline=None)
@given(
    members=st.integers(1, 40),
    modulus=st.sampled_from([2**32, PRIME]),
    bound=st.floats(1e-3, 1e4),
    seed=st.integers(0, 999),
    extreme=st.booleans(),
)
def test_sums_of_coded_updates_are_right_to_a_rounding_and_never_wrap(members, modulus, bound, seed, extreme):
    coding = Coding(modulus, bound, 50.0, members, {"b": 3, "a": 2})
    dice = np.random.default_rng(seed)
    updates, weights = [], []
    for _ in range(members):
        vector = dice.normal(size=5).astype(np.float32)
        if extreme:
            vector = np.array([1, 0, 0, 0, 0], np.float32)  # all of the norm in one place, and in all clients the same
        vector *= np.float32(bound * 0.999 / np.linalg.norm(vector))
        updates.append({"a": vector[:2], "b": vector[2:]})
        weights.append(50.0 if extreme else float(dice.integers(1, 50)))
    total = coding.total(coding.add([coding.encode(u, w) for u, w in zip(updates, weights, strict=True)]), members)
    step = bound * 50.0 / coding.levels
    for name in ("a", "b"):
        exact = sum(u[name].astype(np.float64) * w for u, w in zip(updates, weights, strict=True))
        np.testing.assert_allclose(total.sums[name], exact, atol=members * step * 0.6, rtol=1e-6)
    assert total.weight == pytest.approx(sum(weights), abs=members * 50.0 / coding.levels)
    assert total.count == members


def test_what_is_too_long_is_shortened_and_what_weighs_too_much_counts_as_the_most():
    coding = Coding(2**32, 1.0, 10.0, 2, {"a": 2})
    total = coding.total(coding.encode({"a": np.array([30, 40], np.float32)}, 1e9), 1)
    np.testing.assert_allclose(total.mean("a"), [0.6, 0.8], atol=1e-5)
    assert total.weight == pytest.approx(10.0)


def test_matrix_products_in_the_field_are_exact():
    dice = np.random.default_rng(3)
    matrix = dice.integers(0, PRIME, (5, 70)).astype(np.uint32)
    vectors = dice.integers(0, PRIME, (70, 33)).astype(np.uint32)
    matrix[0], vectors[:, 0] = PRIME - 1, PRIME - 1
    found = product(matrix, vectors)
    for row in range(5):
        for column in range(33):
            exact = sum(int(a) * int(b) for a, b in zip(matrix[row], vectors[:, column], strict=True)) % PRIME
            assert int(found[row, column]) == exact


def test_lagrange_continues_polynomials():
    coefficients = [5, 7, 11, 2**30]

    def value(point: int) -> int:
        return int(sum(c * point**power for power, c in enumerate(coefficients)) % PRIME)

    known, wanted = [1, 2, 3, 4], [9, 20, 31]
    values = np.array([[value(point)] for point in known], np.uint32)
    assert product(lagrange(known, wanted), values)[:, 0].tolist() == [value(point) for point in wanted]


def test_uniform_words_of_the_field_are_spread_evenly():
    words = uniform(200_000, bytes(range(32)))
    assert int(words.max()) < PRIME
    counts = np.histogram(words, 100, (0, PRIME))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 180


@pytest.mark.parametrize("length", [1, 7, primitives.BLOCK, primitives.BLOCK + 1, 3 * primitives.BLOCK - 5])
def test_a_mask_is_the_ciphers_stream_and_comes_off_again(length):
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = bytes(range(32))
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * length))
    words = np.arange(length, dtype=np.uint32)
    primitives.add_mask(words, key)
    assert (words == np.arange(length, dtype=np.uint32) + np.frombuffer(stream, "<u4")).all()
    primitives.add_mask(words, key, negative=True)
    assert (words == np.arange(length)).all()


def test_what_was_sealed_for_one_is_read_by_no_other():
    sealed = primitives.seal(bytes(32), b"secret")
    assert primitives.unseal(bytes(32), sealed) == b"secret"
    with pytest.raises(JobError):
        primitives.unseal(b"\1" + bytes(31), sealed)
    a, b = bytes([1]) * 32, bytes([2]) * 32
    assert primitives.agree(a, primitives.public(b), b"x") == primitives.agree(b, primitives.public(a), b"x")
    assert primitives.agree(a, primitives.public(b), b"x") != primitives.agree(a, primitives.public(b), b"y")
    for weak in (bytes(32), b"short"):
        with pytest.raises(JobError, match="no key"):
            primitives.agree(a, weak, b"x")
