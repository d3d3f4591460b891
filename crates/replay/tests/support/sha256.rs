//! SHA-256 (FIPS 180-4), for the page hashes of the oracles.

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
fn constants() -> [u32; 64] {
    let mut found = [0; 64];
    let mut count = 0;
    let mut candidate = 2u64;
    while count < 64 {
        if (2..candidate).take_while(|d| d * d <= candidate).all(|d| !candidate.is_multiple_of(d)) {
            found[count] = root_fraction(candidate, 3);
            count += 1;
        }
        candidate += 1;
    }
    found
}

/// 32 bits behind the point of a square or cube root, by bisection in integers.
fn root_fraction(value: u64, degree: u32) -> u32 {
    let target = u128::from(value) << (32 * degree);
    let (mut low, mut high) = (0u128, 1u128 << 37);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.pow(degree) <= target { low = middle } else { high = middle }
    }
    low as u32
}

pub struct Sha256 {
    constants: [u32; 64],
}

impl Sha256 {
    pub fn new() -> Sha256 {
        Sha256 { constants: constants() }
    }

    /// The digest in hexadecimal.
    pub fn hex(&self, bytes: &[u8]) -> String {
        let mut state = [2, 3, 5, 7, 11, 13, 17, 19].map(|prime| root_fraction(prime, 2));
        let mut padded = bytes.to_vec();
        padded.push(0x80);
        while padded.len() % 64 != 56 {
            padded.push(0);
        }
        padded.extend((bytes.len() as u64 * 8).to_be_bytes());
        padded.chunks(64).for_each(|block| self.block(&mut state, block));
        state.iter().map(|word| format!("{word:08x}")).collect()
    }

    fn block(&self, state: &mut [u32; 8], block: &[u8]) {
        let mut w = [0u32; 64];
        for (index, bytes) in block.chunks(4).enumerate() {
            w[index] = u32::from_be_bytes(bytes.try_into().unwrap());
        }
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ w[i - 15] >> 3;
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for (word, constant) in w.iter().zip(self.constants) {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h.wrapping_add(s1).wrapping_add(choice);
            let t1 = t1.wrapping_add(constant).wrapping_add(*word);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
            (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(add);
        }
    }
}

#[test]
fn known_digest() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Sha256::new().hex(b"abc"), digest);
}
